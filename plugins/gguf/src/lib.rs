//! GGUF models through llama.cpp: an Impetus format plugin.
//!
//! `header` and `summary` are ours and read files without llama.cpp; `model`, `context` and `embedder` are llama.cpp
//! behind the contract. No sampling, no templates: the host has these.
//!
//! llama.cpp's kernels depend on how many rows are computed together, and so do the last bits of the logits: with
//! quantised weights, log probabilities of one sequence alone and in company were seen to differ by up to a few tenths.
//! So a greedy answer may part from itself where two tokens are held for nearly equally good: alone and in company, with
//! and without guesses (which make two or more rows of one), and by how its prompt was cut. Read off ggml-cpu as
//! llama-cpp-sys-2 0.1.161 has it, the counts of rows at which another kernel computes are:
//!
//! * flash attention over a cache of f16 (`ggml_compute_forward_flash_attn_ext_f16`): one row, from 512 cells on, is split
//!   by threads along the cells and put together afterwards; up to 63 rows each row goes over all cells by itself and
//!   sums values in 16-bit floats; from 64 rows on tiles of 64 rows and 64 cells sum in 32 bits. This is the largest
//!   difference
//! * products with weights of Q8_0, Q4_0, Q5_0, IQ4_NL, f16, bf16 and f32 (`llamafile_sgemm`): from 2 rows on blocks of rows
//!   and columns, whose sums are added in another order; which block a row falls into depends on how many there are
//! * products with weights that were repacked on load (`repack.cpp`): rows in fours, the rest one by one
//!
//! The first also decides what company costs. In a pool (`kv_unified`), a row looks at the mask of every cell in use, whose
//! ever it is, and the cells of sequences that grow together lie interleaved: with eight answers of a hundred tokens on
//! SmolLM2-135M attention took 26 % of the time there, against 5 % with a cache for each sequence. These cannot share
//! beginnings, and cut the context into parts: so there are both (`caches`), and a step is cut into pieces that suit each
//! (`pieces`).

mod benchmarks;
mod caches;
mod context;
mod embedder;
mod grouping;
mod header;
mod inspection;
mod log;
mod model;
mod native;
mod options;
mod parts;
mod pieces;
mod state;
mod summary;

use std::sync::Arc;

use impetus_plugin_api::sdk::{FormatPlugin, Progress, benchmarks, inspection};
use impetus_plugin_api::{
    BENCHMARKS, Extension, HostApi, INSPECTION, LoadRequest, PluginError, ProbeInput, ProbeResult,
    export_plugin,
};
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::benchmarks::GgmlBenchmarks;
use crate::model::{GgufModel, Loading};
use crate::options::Options;

/// The plugin: llama.cpp's backend and the options.
struct Gguf {
    backend: Arc<LlamaBackend>,
    options: Options,
    /// The same as they were told: what is told of a model goes over them.
    told: String,
    default_threads: u32,
}

/// # Errors
/// `UNSUPPORTED` for layers on a GPU that this build knows nothing of.
fn check_layers(options: &Options, backend: &LlamaBackend) -> Result<(), PluginError> {
    if options.gpu_layers > 0 && !backend.supports_gpu_offload() {
        return Err(PluginError::unsupported(
            "gpu_layers is set, but this build of the gguf plugin has no GPU backend: remove the option",
        ));
    }
    Ok(())
}

impl FormatPlugin for Gguf {
    type Model = GgufModel;

    fn init(host: HostApi, options_json: &str) -> Result<Self, PluginError> {
        let options = Options::parse(options_json)?;
        log::install();
        let backend = LlamaBackend::init()
            .map_err(|error| PluginError::internal(format!("llama.cpp could not be started: {error}")))?;
        check_layers(&options, &backend)?;
        let default_threads = u32::try_from(host.thread_budget()).unwrap_or(1);
        Ok(Gguf { backend: Arc::new(backend), options, told: options_json.to_owned(), default_threads })
    }

    fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
        let named_so = input.path().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
        if input.is_dir || !(named_so || input.head().starts_with(b"GGUF")) {
            return Ok(ProbeResult::not_mine());
        }
        let header = parts::read_model(input.path())?;
        let result = ProbeResult::exact("gguf", summary::summary(&header, &self.options).to_string());
        Ok(match summary::obstacle(&header) {
            Some(reason) => result.cannot_run(reason),
            None => result,
        })
    }

    fn load_model(&self, request: &LoadRequest<'_>, progress: Progress) -> Result<GgufModel, PluginError> {
        let header = parts::read_model(request.path())?;
        if let Some(reason) = summary::obstacle(&header) {
            return Err(PluginError::unsupported(reason));
        }
        let options = Options::of_model(&self.told, request.options_json.as_str())?;
        check_layers(&options, &self.backend)?;
        let loading = Loading {
            summary: summary::summary(&header, &options),
            options,
            default_threads: self.default_threads,
            pooling: summary::pooling(&header),
            is_encoder: summary::is_encoder(&header),
        };
        GgufModel::load(Arc::clone(&self.backend), request.path(), loading, progress)
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        match name {
            BENCHMARKS => Some(benchmarks(GgmlBenchmarks { _backend: Arc::clone(&self.backend) })),
            INSPECTION => Some(inspection::<Self>()),
            _ => None,
        }
    }

    fn build() -> String {
        "llama.cpp of llama-cpp-2 0.1.160, CPU".to_owned()
    }
}

export_plugin! {
    plugin: Gguf,
    id: "gguf",
    name: "GGUF through llama.cpp",
    formats: [{ id: "gguf", extensions: ["gguf"], priority: 100 }],
}
