/** The server's types by short names. All are generated from /openapi.json into schema.ts; none is written here. */
import type { components, paths } from "./schema";

type Schemas = components["schemas"];

export type ModelEntry = Schemas["ModelEntry"];
export type ModelState = Schemas["ModelState"];
export type PluginRecord = Schemas["PluginRecord"];
export type PluginState = Schemas["PluginState"];
export type Process = Schemas["Process"];
export type Plan = Schemas["Plan"];
export type Fit = Schemas["Fit"];
export type ModelDetails = Schemas["ModelDetails"];
export type Tensor = Schemas["Tensor"];
export type UploadState = Schemas["UploadState"];
export type Piece = Schemas["Piece"];
export type ServerStatus = Schemas["ServerStatus"];
export type Answered = Schemas["Answered"];
export type Failed = Schemas["Failed"];
export type Changed = Schemas["Changed"];
export type DeletedModel = Schemas["DeletedModel"];
export type ErrorBody = Schemas["ErrorBody"];
/** What `/api/events` tells. */
export type Event = Schemas["Event"];
/** What a load tells while it goes on. */
export type LoadNews = Schemas["LoadNews"];
/** A piece of an answer. */
export type ChatChunk = Schemas["Envelope_ChatDelta"];
/** A piece of a call in it. */
export type ToolPiece = Schemas["ToolCall"];

/** What a path answers to GET. */
export type Answer<Path extends keyof paths> = paths[Path] extends { get: { responses: { 200: { content: { "application/json": infer T } } } } } ? T : never;

type Body<Path extends keyof paths> = paths[Path] extends { post: { requestBody: { content: { "application/json": infer T } } } } ? T : never;
export type ChatRequest = Body<"/v1/chat/completions">;
