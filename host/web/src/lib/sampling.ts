/** Every sampling setting of the API with its range and its meaning. That each is a field of the API is checked by its type. */
import type { ChatRequest } from "../api/types";

export type Kind = "number" | "whole" | "flag" | "texts" | "biases";

export interface Setting {
  name: keyof ChatRequest & string;
  label: string;
  kind: Kind;
  min?: number;
  max?: number;
  step?: number;
  /** What holds when it is left empty. */
  usual: string;
  meaning: string;
  /** What a model must be able to do for it. */
  needs: string;
}

export interface Group {
  title: string;
  settings: Setting[];
}

export const GROUPS: Group[] = [
  {
    title: "Length",
    settings: [
      { name: "max_tokens", label: "Most tokens", kind: "whole", min: 1, usual: "as far as the context goes", meaning: "Where the answer is cut off at the latest.", needs: "generate" },
      { name: "stop", label: "Stop texts", kind: "texts", usual: "none", meaning: "The answer ends before the first of these. One in each line.", needs: "stop" },
      { name: "ignore_eos", label: "Pass over end tokens", kind: "flag", usual: "off", meaning: "The model cannot end its answer by itself.", needs: "stop" },
      { name: "seed", label: "Seed", kind: "whole", usual: "random", meaning: "The same seed with the same settings gives the same answer.", needs: "seed" },
    ],
  },
  {
    title: "Choice of tokens",
    settings: [
      { name: "temperature", label: "Temperature", kind: "number", min: 0, max: 5, step: 0.05, usual: "1", meaning: "Below 1 the probable becomes more probable; 0 always takes the best token.", needs: "temperature" },
      { name: "top_p", label: "Top p", kind: "number", min: 0, max: 1, step: 0.01, usual: "1, off", meaning: "Only the fewest tokens that together have this probability.", needs: "top_p" },
      { name: "top_k", label: "Top k", kind: "whole", min: 0, usual: "0, off", meaning: "Only the k best tokens.", needs: "top_k" },
      { name: "min_p", label: "Min p", kind: "number", min: 0, max: 1, step: 0.01, usual: "0, off", meaning: "Only tokens with at least this share of the best one's probability.", needs: "min_p" },
      { name: "typical_p", label: "Typical p", kind: "number", min: 0, max: 1, step: 0.01, usual: "1, off", meaning: "Tokens whose surprise is near what is to be expected here.", needs: "typical_p" },
      { name: "top_n_sigma", label: "Top n sigma", kind: "number", min: 0, step: 0.1, usual: "0, off", meaning: "Only tokens within so many standard deviations of the best logit.", needs: "top_n_sigma" },
      { name: "logit_bias", label: "Biases", kind: "biases", usual: "none", meaning: "Added to the logits of single tokens: token id and number, one pair in each line.", needs: "logit_bias" },
    ],
  },
  {
    title: "Repetition",
    settings: [
      { name: "repeat_penalty", label: "Repeat penalty", kind: "number", min: 0.01, max: 3, step: 0.01, usual: "1, off", meaning: "Above 1, tokens of the last text become less probable.", needs: "penalties" },
      { name: "repeat_last_n", label: "Looked at for it", kind: "whole", min: -1, usual: "64", meaning: "How many last tokens the repeat penalty looks at; -1 is all.", needs: "penalties" },
      { name: "presence_penalty", label: "Presence penalty", kind: "number", min: -2, max: 2, step: 0.05, usual: "0", meaning: "Taken once from every token that the answer has already.", needs: "penalties" },
      { name: "frequency_penalty", label: "Frequency penalty", kind: "number", min: -2, max: 2, step: 0.05, usual: "0", meaning: "Taken from a token for each time that the answer has it.", needs: "penalties" },
      { name: "dry_multiplier", label: "DRY", kind: "number", min: 0, step: 0.05, usual: "0, off", meaning: "Against whole sequences that repeat: how strong.", needs: "dry" },
      { name: "dry_base", label: "DRY base", kind: "number", min: 1, step: 0.05, usual: "1.75", meaning: "How the penalty grows with the length of the repetition.", needs: "dry" },
      { name: "dry_allowed_length", label: "DRY allowed length", kind: "whole", min: 0, usual: "2", meaning: "Repetitions up to this length are free.", needs: "dry" },
      { name: "dry_penalty_last_n", label: "DRY looks at", kind: "whole", min: -1, usual: "all", meaning: "How many last tokens are searched for repetitions; -1 is all.", needs: "dry" },
      { name: "dry_sequence_breakers", label: "DRY breakers", kind: "texts", usual: "line break, colon, quote, star", meaning: "Texts across which nothing counts as repeated. One in each line.", needs: "dry" },
    ],
  },
  {
    title: "Surprise",
    settings: [
      { name: "mirostat", label: "Mirostat", kind: "whole", min: 0, max: 2, usual: "0, off", meaning: "1 or 2: keeps the surprise of the answer level, in place of the filters above.", needs: "mirostat" },
      { name: "mirostat_tau", label: "Mirostat tau", kind: "number", min: 0, step: 0.1, usual: "5", meaning: "The surprise that it keeps to, in bits.", needs: "mirostat" },
      { name: "mirostat_eta", label: "Mirostat eta", kind: "number", min: 0, max: 1, step: 0.01, usual: "0.1", meaning: "How fast it follows.", needs: "mirostat" },
      { name: "xtc_probability", label: "XTC probability", kind: "number", min: 0, max: 1, step: 0.01, usual: "0, off", meaning: "How often the most probable tokens are left out.", needs: "xtc" },
      { name: "xtc_threshold", label: "XTC threshold", kind: "number", min: 0, max: 0.5, step: 0.01, usual: "0.1", meaning: "From which probability on a token counts as such.", needs: "xtc" },
      { name: "dynatemp_range", label: "Dynamic temperature", kind: "number", min: 0, step: 0.05, usual: "0, off", meaning: "The temperature goes up and down by this with the entropy.", needs: "dynatemp" },
      { name: "dynatemp_exponent", label: "Its exponent", kind: "number", min: 0, step: 0.1, usual: "1", meaning: "How entropy bends it.", needs: "dynatemp" },
    ],
  },
];

type Value = number | boolean | string[] | Record<string, number>;

/** What was typed, as the API takes it; `undefined` where it is empty. */
export function parse(setting: Setting, text: string): { value?: Value; problem?: string } {
  const trimmed = text.trim();
  if (trimmed === "") return {};
  if (setting.kind === "texts") return { value: text.split("\n").filter((line) => line !== "").map(unescape) };
  if (setting.kind === "biases") return biases(trimmed);
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return { problem: "a number is expected" };
  if (setting.kind === "whole" && !Number.isInteger(value)) return { problem: "a whole number is expected" };
  if (setting.min !== undefined && value < setting.min) return { problem: `at least ${setting.min}` };
  if (setting.max !== undefined && value > setting.max) return { problem: `at most ${setting.max}` };
  return { value };
}

function biases(text: string): { value?: Value; problem?: string } {
  const value: Record<string, number> = {};
  for (const line of text.split("\n").map((line) => line.trim()).filter(Boolean)) {
    const [token, bias, ...more] = line.split(/[\s:=,]+/);
    if (!token || !/^\d+$/.test(token) || bias === undefined || !Number.isFinite(Number(bias)) || more.length > 0) {
      return { problem: `“${line}” is no token id with a number` };
    }
    value[token] = Number(bias);
  }
  return { value };
}

const unescape = (line: string): string => line.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
const escape = (line: string): string => line.replaceAll("\n", "\\n").replaceAll("\t", "\\t");

/** The text of a value, to be edited. */
export function show(value: Value | undefined): string {
  if (value === undefined) return "";
  if (Array.isArray(value)) return value.map(escape).join("\n");
  if (typeof value === "object") return Object.entries(value).map(([token, bias]) => `${token} ${bias}`).join("\n");
  return String(value);
}
