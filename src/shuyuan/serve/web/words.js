// All words of the page, in English and Chinese, and the language that is shown.

const WORDS = {
  en: {
    skip: "To the content", pages: "Pages", handbook: "Handbook", theme: "Colours", "theme.system": "As the system", "theme.light": "Light",
    "theme.dark": "Dark", login: "Log in", "login.lead": "With the key that whoever runs this server gave you. It is not kept in the browser.",
    key: "Key", logout: "Log out", model: "Model", settings: "Settings", stop: "Stop", nothing: "Nothing yet.",
    chat: "Chat", "chat.log": "The chat", "chat.renew": "New chat", message: "Message", send: "Send",
    "turn.user": "You", "turn.assistant": "Model", temperature: "Temperature", longest: "Tokens at most",
    translate: "Translate", "do.translate": "Translate", text: "Text", to: "Into the language",
    answer: "Answer", "do.answer": "Answer", question: "Question", context: "Text in which the answer stands", index: "Index",
    "answer.none": "The answer does not stand there.", "answer.person": "Better ask a person.",
    summarize: "Summarize", "do.summarize": "Summarize", classify: "Classify", "do.classify": "Classify",
    image: "Or an image (PNG, JPEG, BMP, WebP)", generate: "Generate", "do.generate": "Generate", prompt: "Beginning of the text",
    working: "Working…", done: "Done.", stopped: "Stopped.", "no-model": "No model here is for this.",
    "finish.stop": "Done: {read} tokens read, {written} written.",
    "finish.length": "Cut off: no room for more. {read} tokens read, {written} written.",
    "finish.content_filter": "Ended by a rule of this server. {read} tokens read, {written} written.",
    admin: "Administration", keys: "Keys", runs: "Runs", usage: "Usage", limits: "Limits", audit: "Audit log, the newest first",
    name: "Name", role: "Role", "role.user": "user", "role.auditor": "auditor", "role.admin": "administrator", made: "Made",
    expires: "Expires", granted: "Models", grants: "Models that it may ask (none chosen: all)", refresh: "Refresh", state: "State", all: "all", valid: "valid", expired: "expired",
    revoked: "revoked", revoke: "Revoke", "revoke.sure": "Make the key of {name} useless at once?", "key.add": "Add a key",
    "key.once": "The new key, shown this once. Copy it now.", variant: "Variant", task: "Task", size: "Size", loaded: "Loaded",
    active: "Active", waiting: "Waiting", report: "Report", open: "Open", yes: "yes", no: "no", day: "Day", requests: "Requests",
    read: "Tokens read", written: "Tokens written", limit: "Limit", value: "Value", time: "Time", event: "Event", outcome: "Outcome",
    "limit.requests_per_minute": "Requests a minute, of a key", "limit.tokens_per_minute": "Tokens a minute, of a key",
    "limit.streams": "Texts at once, of a key", "limit.queue": "Requests that wait for a model",
    "limit.queue_seconds": "Seconds that one waits at most", "limit.body_bytes": "Bytes of a request",
    "limit.body_seconds": "Seconds until it is there", "limit.header_seconds": "Seconds until its headers are there",
    "limit.send_seconds": "Seconds to read what was sent", "limit.connections": "Connections at once",
    "limit.longest_output": "Tokens of an answer", "limit.choices": "Answers of one request", "limit.storage": "Where requests are counted",
    error: "{what}", "error.unexpected": "Something went wrong on this page. Load it again.",
    "error.network": "The server does not answer, or broke off. Try again.",
    "error.serve.no-key": "The key is unknown, expired or revoked, or the session is over. Log in with a key that is valid.",
  },
  zh: {
    skip: "跳到内容", pages: "页面", handbook: "手册", theme: "配色", "theme.system": "跟随系统", "theme.light": "浅色",
    "theme.dark": "深色", login: "登录", "login.lead": "请使用服务器管理员提供的密钥。浏览器不会保存它。",
    key: "密钥", logout: "退出", model: "模型", settings: "设置", stop: "停止", nothing: "暂无内容。",
    chat: "对话", "chat.log": "对话内容", "chat.renew": "新对话", message: "消息", send: "发送",
    "turn.user": "您", "turn.assistant": "模型", temperature: "温度", longest: "最多词元数",
    translate: "翻译", "do.translate": "翻译", text: "文本", to: "目标语言",
    answer: "问答", "do.answer": "回答", question: "问题", context: "包含答案的文本", index: "索引",
    "answer.none": "文中没有答案。", "answer.person": "建议转人工处理。",
    summarize: "摘要", "do.summarize": "生成摘要", classify: "分类", "do.classify": "分类",
    image: "或一张图片（PNG、JPEG、BMP、WebP）", generate: "生成", "do.generate": "生成", prompt: "文本开头",
    working: "处理中……", done: "完成。", stopped: "已停止。", "no-model": "这里没有适用的模型。",
    "finish.stop": "完成：读入 {read} 个词元，写出 {written} 个。",
    "finish.length": "已截断：长度已达上限。读入 {read} 个词元，写出 {written} 个。",
    "finish.content_filter": "被服务器的规则终止。读入 {read} 个词元，写出 {written} 个。",
    admin: "管理", keys: "密钥", runs: "运行", usage: "用量", limits: "限额", audit: "审计日志（最新在前）",
    name: "名称", role: "角色", "role.user": "用户", "role.auditor": "审计员", "role.admin": "管理员", made: "创建于",
    expires: "到期时间", granted: "模型", grants: "可用的模型（不选则为全部）", refresh: "刷新", state: "状态", all: "全部", valid: "有效", expired: "已过期",
    revoked: "已吊销", revoke: "吊销", "revoke.sure": "立即吊销 {name} 的密钥？", "key.add": "添加密钥",
    "key.once": "新密钥只显示这一次，请立即复制。", variant: "变体", task: "任务", size: "大小", loaded: "已载入",
    active: "进行中", waiting: "等待中", report: "报告", open: "打开", yes: "是", no: "否", day: "日期", requests: "请求数",
    read: "读入词元", written: "写出词元", limit: "限额", value: "数值", time: "时间", event: "事件", outcome: "结果",
    "limit.requests_per_minute": "每个密钥每分钟请求数", "limit.tokens_per_minute": "每个密钥每分钟词元数",
    "limit.streams": "每个密钥同时生成的文本数", "limit.queue": "等待一个模型的请求数",
    "limit.queue_seconds": "最长等待秒数", "limit.body_bytes": "请求的字节数",
    "limit.body_seconds": "接收整个请求的秒数", "limit.header_seconds": "接收请求头的秒数",
    "limit.send_seconds": "对方读取回复的秒数", "limit.connections": "同时连接数",
    "limit.longest_output": "一个回答的词元数", "limit.choices": "一个请求的回答数", "limit.storage": "请求计数的存放处",
    error: "服务器拒绝了请求：{what}", "error.unexpected": "此页面出现错误，请重新载入。",
    "error.network": "服务器没有回应，或连接中断。请重试。",
    "error.serve.no-key": "密钥未知、已过期或已吊销，或会话已结束。请使用有效的密钥登录。",
    "error.serve.low-role": "您的角色无权这样做。",
    "error.serve.too-many": "此密钥的限额已用完。请在 {seconds} 秒后重试。",
    "error.serve.too-dear": "此请求超过了密钥每分钟的词元数。请缩短文本。",
    "error.serve.too-large": "请求太大。", "error.serve.too-long": "文本太长。请缩短。",
    "error.inference.too-long": "文本太长，模型一次看不完。请缩短。", "error.serve.slow-body": "请求没有及时送到。请重试。",
    "error.serve.not-ready": "服务器正在启动或停止。请稍候。", "error.serve.model-failed": "模型出错，正在重新载入。请重试。",
    "error.serve.cannot-load": "现在无法载入这个模型。请联系服务器的管理者。", "error.serve.other-input": "这个模型读取的不是这种输入（文本或图片）。",
    "error.serve.bad-name": "名称最多 64 个字符：字母、数字、_ . @ 和 -。", "error.serve.bad-expiry": "到期时间请写 never、天数（如 90d）或日期（如 2030-01-31）。",
    "error.serve.no-model": "没有这个模型，或此密钥无权使用它。", "error.serve.guarded": "服务器的规则拒绝了这段文本。",
    "error.serve.no-image": "无法读取这张图片。请选择 PNG、JPEG、BMP 或 WebP 文件。",
    "error.serve.name-taken": "这个名称已有密钥。", "error.run.other-task": "这个模型不是为此任务训练的。",
  },
};
export const LANGUAGES = Object.keys(WORDS);

let language = "en";

/** The words under a name, with values in their places; the name itself where there are none. */
export function say(name, values = {}) {
  const words = WORDS[language][name];
  return words === undefined ? name : words.replace(/\{(\w+)\}/g, (whole, each) => values[each] ?? whole);
}

/** Puts words into an element, which follow the language from then on; an empty name empties it. */
export function fill(element, name, values = {}) {
  element.dataset.word = name;
  element.dataset.values = JSON.stringify(values);
  element.textContent = name && say(name, values);
}

/** Shows all that has a word in another language. */
export function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = wanted;
  for (const each of document.querySelectorAll("[data-word]")) {
    fill(each, each.dataset.word, JSON.parse(each.dataset.values ?? "{}"));
  }
  for (const each of document.querySelectorAll("[data-word-label]")) {
    each.setAttribute("aria-label", say(each.dataset.wordLabel));
  }
}
