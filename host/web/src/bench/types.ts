/** Benchmarks as the API tells them, by short names. All are generated from /openapi.json; none is written here. */
import type { components, paths } from "../api/schema";

type Schemas = components["schemas"];

export type Kind = Schemas["BenchmarkKind"];
export type Figure = Schemas["BenchmarkFigure"];
export type Report = Schemas["BenchmarkReport"];
export type Job = Schemas["BenchmarkJob"];
export type Change = Schemas["BenchmarkChange"];
export type Comparison = Schemas["BenchmarkComparison"];
export type Unit = Schemas["BenchmarkUnit"];
export type Options = paths["/api/benchmarks"]["post"]["requestBody"]["content"]["application/json"];
