// Text that is shown while it is written.

import { stream } from "./api.js";
import { plain } from "./shown.js";

const NEAR = 80; // pixels from the page's end within which it follows the text

/** How text is drawn, as a form says. */
export function drawing(fields) {
  return { temperature: Number(fields.get("temperature")), max_tokens: Number(fields.get("most")) };
}

/** Puts an answer's pieces into `place` as they come, and gives each; says at the end why it ended. */
export async function* follow(path, body, signal, tell, place) {
  let finish = "stop";
  for await (const chunk of stream(path, body, signal)) {
    const [choice] = chunk.choices;
    const piece = choice?.delta?.content ?? choice?.text;
    if (piece) {
      append(place, piece);
      yield piece;
    }
    finish = choice?.finish_reason ?? finish;
    if (chunk.usage) tell(`finish.${finish}`, { read: chunk.usage.prompt_tokens, written: chunk.usage.completion_tokens });
  }
}

function append(place, piece) {
  const page = document.documentElement;
  const below = page.scrollHeight - page.clientHeight - window.scrollY < NEAR;
  place.append(plain(piece));
  if (below) window.scrollTo(0, page.scrollHeight);
}
