"""What requests and responses hold: OpenAI's fields where it has them, the command's words for the tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

LONGEST_NAME = 200
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Zero = Annotated[float, Field(ge=0, le=0)]  # the neutral value of a setting that is not there
BATCH = 64  # texts of one request


class Asked(BaseModel):
    """A request. Fields that are not known are refused: they would do nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    model: Name


class StreamOptions(BaseModel):
    """Whether a last chunk tells the usage."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(Asked):
    """How text is drawn."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Count | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, StringConstraints(max_length=200)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class TextPart(BaseModel):
    """A part of a message. Images are not taken, and URLs never fetched."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=1000)]
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """All that it says."""
        return (
            self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        )


class ResponseFormat(BaseModel):
    """The form of a reply: text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]


class ChatRequest(Sampled):
    """A chat, to be replied to."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @property
    def texts(self) -> list[str]:
        """What the messages say."""
        return [message.text for message in self.messages]


Ids = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1)]


class CompletionRequest(Sampled):
    """Texts, to be continued."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=BATCH)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=BATCH)]
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = None
    suffix: None = None
    best_of: None = None

    @property
    def texts(self) -> list[str]:
        """The prompts, where they are text."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [each for each in self.prompt if isinstance(each, str)]

    @property
    def rows(self) -> list[list[int]]:
        """The prompts, where they are tokens."""
        given: Any = self.prompt
        return [given] if isinstance(given[0], int) else given


# ---- what OpenAI's API gives back ----------------------------------------------------------------------------------


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that might have been drawn."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that was drawn."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """The tokens of a reply."""

    content: list[TokenLogprob] | None
    refusal: None = None


Finish = Literal["stop", "length", "content_filter"]


class Reply(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One reply."""

    index: int
    message: Reply
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(BaseModel):
    """The replies to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _present(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class ChunkChoice(BaseModel):
    """A piece of one reply."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


class ChatChunk(BaseModel):
    """A piece of the replies to a chat."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class TextLogprobs(BaseModel):
    """The tokens of a text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextChoice(BaseModel):
    """One continuation, or a piece of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish | None


class Completion(BaseModel):
    """The continuations of texts, or a piece of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class ModelFacts(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    task: str
    loaded: bool


class ModelList(BaseModel):
    """The models that a key may ask."""

    object: Literal["list"] = "list"
    data: list[ModelFacts]


# ---- the tasks -----------------------------------------------------------------------------------------------------

Texts = str | Annotated[list[str], Field(min_length=1, max_length=BATCH)]


class Searched(Asked):
    """How an answer is looked for."""

    beams: Annotated[int, Field(ge=1, le=8)] = 1
    length_penalty: Annotated[float, Field(ge=0, le=10)] = 1.0


class TranslateRequest(Searched):
    """Texts, and the language wanted."""

    text: Texts
    to: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    beams: Annotated[int, Field(ge=1, le=8)] = 4
    max_tokens: Count = 256


class SummarizeRequest(Searched):
    """Texts whose point is wanted."""

    text: Texts
    max_tokens: Count = 200


class AnswerRequest(Asked):
    """Questions, all about one text, an index, or nothing. An index as the model answers by itself."""

    question: Texts
    context: str | None = None
    index: Name | None = None
    top: Annotated[int, Field(ge=1, le=20)] = 5
    max_tokens: Count = 100


class ClassifyRequest(Asked):
    """Texts, or images as base64 of PNG, JPEG, BMP or WebP."""

    text: Texts | None = None
    image: Texts | None = None


class Translation(BaseModel):
    """A text and its translation."""

    text: str
    translation: str


class Translations(BaseModel):
    """As `shuyuan translate --json` prints them."""

    to: str
    translations: list[Translation]
    usage: Usage


class Summary(BaseModel):
    """A text and its point."""

    text: str
    summary: str


class Summaries(BaseModel):
    """As `shuyuan summarize --json` prints them."""

    summaries: list[Summary]
    usage: Usage


class Passage(BaseModel):
    """A place in a document of an index."""

    document: str
    line: int
    start: int
    end: int
    score: float
    text: str
    answer: str | None = None


class AnswerTold(BaseModel):
    """A question and its answer: where it stands, and whether it is there at all.

    Of an index, the passages that fit and the one that answers; of one with known answers, how sure it is, and whether a person
    should be asked.
    """

    question: str
    answer: str | None
    found: bool
    start: int | None = None
    source: Passage | None = None
    passages: list[Passage] = []
    confidence: float | None = None
    hand_over: bool | None = None


class Answers(BaseModel):
    """As `shuyuan answer --json` prints them."""

    answers: list[AnswerTold]
    usage: Usage


class Labels(BaseModel):
    """The likeliest label of a record, and the probability of each."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Classified(BaseModel):
    """As `shuyuan classify --json` prints them, without the records."""

    labels: list[Labels]


# ---- administration ------------------------------------------------------------------------------------------------


class Login(BaseModel):
    """A key, to be exchanged for a session."""

    model_config = ConfigDict(extra="forbid", strict=True)
    key: Annotated[str, StringConstraints(max_length=200)]


class Session(BaseModel):
    """Who is logged in, and the token that pages send beside the cookie."""

    name: str
    role: str
    token: str | None


class NewKey(BaseModel):
    """A key that is wanted."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Name
    role: Literal["admin", "user", "auditor"] = "user"
    expires: Annotated[str, StringConstraints(max_length=40)] = "90d"
    models: Annotated[list[Name], Field(max_length=1000)] | None = None


class KeyFacts(BaseModel):
    """A key, without its text."""

    name: str
    role: str
    models: list[str] | None
    created: str
    expires: str | None
    revoked: str | None


class KeyMade(KeyFacts):
    """A key with its text, which is told here and never again."""

    key: str


class KeyList(BaseModel):
    """All keys."""

    keys: list[KeyFacts]


class Revoked(BaseModel):
    """The name of a key that is useless now."""

    revoked: str


class UsageLine(BaseModel):
    """What a key took of a model on a day."""

    name: str
    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageList(BaseModel):
    """What all keys took."""

    usage: list[UsageLine]


class Health(BaseModel):
    """Whether the server is well."""

    status: Literal["ok"] = "ok"


class RunFacts(BaseModel):
    """A model that is served, as whoever runs the server sees it."""

    model: str
    variant: str
    task: str
    bytes: int
    loaded: bool
    active: int
    waiting: int
    report: bool


class RunList(BaseModel):
    """All models that are served."""

    runs: list[RunFacts]
