"""Every route of the server with who may take it. A route that is not here cannot be made."""

from __future__ import annotations

from typing import Final

from .auth import Role

USERS: Final[frozenset[Role]] = frozenset({"user", "admin"})
READERS: Final[frozenset[Role]] = frozenset({"auditor", "admin"})
ADMINS: Final[frozenset[Role]] = frozenset({"admin"})
ANY: Final[frozenset[Role]] = frozenset({"user", "auditor", "admin"})
OPEN: Final[frozenset[Role]] = frozenset()  # no key is asked for

ROUTES: Final[dict[tuple[str, str], frozenset[Role]]] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/"): OPEN,
    ("GET", "/web/admin.js"): OPEN,
    ("GET", "/web/api.js"): OPEN,
    ("GET", "/web/chat.js"): OPEN,
    ("GET", "/web/follow.js"): OPEN,
    ("GET", "/web/form.js"): OPEN,
    ("GET", "/web/icon.svg"): OPEN,
    ("GET", "/web/main.js"): OPEN,
    ("GET", "/web/page.css"): OPEN,
    ("GET", "/web/shown.js"): OPEN,
    ("GET", "/web/tasks.js"): OPEN,
    ("GET", "/web/words.js"): OPEN,
    ("GET", "/handbook"): OPEN,
    ("GET", "/handbook/{question}"): OPEN,
    ("GET", "/metrics"): READERS,
    ("GET", "/openapi.json"): ANY,
    ("POST", "/session"): OPEN,
    ("GET", "/session"): ANY,
    ("DELETE", "/session"): ANY,
    ("GET", "/v1/models"): ANY,
    ("GET", "/v1/models/{model}"): ANY,
    ("POST", "/v1/chat/completions"): USERS,
    ("POST", "/v1/completions"): USERS,
    ("POST", "/v1/translate"): USERS,
    ("POST", "/v1/answer"): USERS,
    ("POST", "/v1/summarize"): USERS,
    ("POST", "/v1/classify"): USERS,
    ("GET", "/admin/keys"): READERS,
    ("POST", "/admin/keys"): ADMINS,
    ("DELETE", "/admin/keys/{name}"): ADMINS,
    ("GET", "/admin/usage"): READERS,
    ("GET", "/admin/limits"): READERS,
    ("GET", "/admin/audit"): READERS,
    ("GET", "/admin/runs"): READERS,
    ("GET", "/admin/runs/{model}/report"): READERS,
}
