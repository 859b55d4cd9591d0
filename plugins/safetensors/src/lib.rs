//! Hugging Face checkpoints, run as they are: an Impetus format plugin.
//!
//! A model is a folder with `config.json`, `tokenizer.json` and `*.safetensors`; where MLX has rounded its weights, its
//! format is `mlx`. `config` and `checkpoint` read it,
//! `decoder` computes it with `kernels` on the threads of `pool`, over the `cache`; `encoder` makes embeddings. No sampling, no templates: the host
//! has these.
//!
//! The last bits of a sequence's results depend on how its tokens were cut into steps, since attention takes its keys in
//! groups. In float32 log probabilities stay within 1e-4 of each other for it; where activations are rounded to brain
//! floats, within 0.02 (both are tested). A few rows of a lone sequence in one step give to the last bit what they give one
//! by one, unless the model's rotation goes by the length that the step ends with.

mod any;
mod benchmarks;
mod cache;
mod candle;
mod checkpoint;
mod config;
mod context;
mod decoder;
mod encoder;
mod inspection;
mod kernels;
mod model;
mod options;
mod pool;
mod stages;
mod summary;
mod tokenizer;
mod words;

#[cfg(test)]
mod allocation_tests;
#[cfg(test)]
mod golden_tests;

use std::path::Path;

use impetus_plugin_api::sdk::{FormatPlugin, Progress, benchmarks, inspection};
use impetus_plugin_api::{
    BENCHMARKS, ErrorCode, Extension, HostApi, INSPECTION, LoadRequest, PluginError, ProbeInput, ProbeResult,
    export_plugin,
};

use crate::any::CheckpointModel;
use crate::benchmarks::KernelBenchmarks;
use crate::candle::Outline;
use crate::checkpoint::Checkpoint;
use crate::config::Description;
use crate::encoder::{Encoder, is_encoder};
use crate::options::Options;

/// The plugin: its options.
struct Safetensors {
    options: Options,
    /// The same as they were told: what is told of a model goes over them.
    told: String,
    default_threads: u32,
}

impl FormatPlugin for Safetensors {
    type Model = CheckpointModel;

    fn init(host: HostApi, options_json: &str) -> Result<Self, PluginError> {
        let options = Options::parse(options_json)?;
        let default_threads = u32::try_from(host.thread_budget()).unwrap_or(1);
        Ok(Safetensors { options, told: options_json.to_owned(), default_threads })
    }

    fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
        if input.is_dir {
            return self.probe_folder(input.path());
        }
        let named_so =
            input.path().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
        if !named_so {
            return Ok(ProbeResult::not_mine());
        }
        let folder = input.path().parent().unwrap_or(Path::new("."));
        Ok(ProbeResult::exact("safetensors", "{}").cannot_run(match folder.join("config.json").exists() {
            true => "it is a part of the checkpoint that is its folder: name the folder",
            false => {
                "it is weights alone: config.json and tokenizer.json are missing beside it, which say what model they \
                 are of; fetch the whole folder of the checkpoint"
            }
        }))
    }

    fn load_model(
        &self,
        request: &LoadRequest<'_>,
        progress: Progress,
    ) -> Result<CheckpointModel, PluginError> {
        let report = |fraction| progress.report(fraction);
        let options = Options::of_model(&self.told, request.options_json.as_str())?;
        CheckpointModel::load(request.path(), options, self.default_threads, report)
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        match name {
            BENCHMARKS => Some(benchmarks(KernelBenchmarks { level: self.options.level() })),
            INSPECTION => Some(inspection::<Self>()),
            _ => None,
        }
    }

    fn build() -> String {
        format!("own kernels, {}", kernels::Level::best())
    }
}

impl Safetensors {
    /// A folder with a config.json and weights is ours; whether it runs is said in its obstacle.
    fn probe_folder(&self, folder: &Path) -> Result<ProbeResult, PluginError> {
        if !folder.join("config.json").is_file() {
            return Ok(ProbeResult::not_mine());
        }
        let checkpoint = match Checkpoint::open(folder) {
            Ok(checkpoint) => checkpoint,
            // A folder with another kind of config.json.
            Err(error) if error.code == ErrorCode::NOT_FOUND && !has_weights(folder) => {
                return Ok(ProbeResult::not_mine());
            }
            Err(error) => return Err(error),
        };
        let description = Description::read(folder)?;
        if is_encoder(description.family()) {
            return Ok(self.probe_encoder(folder, &description, &checkpoint));
        }
        if candle::is_ours(description.family()) {
            return Ok(self.probe_candle(folder, &description, &checkpoint));
        }
        let decoder = description.decoder();
        let decoder = decoder.and_then(|decoder| told_how(&description, &checkpoint).map(|()| decoder));
        let summary = summary::summary(&description, &checkpoint, decoder.as_ref().ok(), &self.options);
        let format = if description.rounded().unwrap_or(false) { "mlx" } else { "safetensors" };
        let result = ProbeResult::exact(format, summary.to_string());
        Ok(match decoder {
            Err(error) => result.cannot_run(error.message),
            Ok(_) if !folder.join("tokenizer.json").is_file() => result.cannot_run(NO_TOKENIZER),
            Ok(_) => result,
        })
    }

    fn probe_encoder(
        &self,
        folder: &Path,
        description: &Description,
        checkpoint: &Checkpoint,
    ) -> ProbeResult {
        let encoder = match Encoder::read(folder, description) {
            Ok(encoder) => encoder,
            Err(error) => {
                let summary = summary::summary(description, checkpoint, None, &self.options);
                return ProbeResult::exact("safetensors", summary.to_string()).cannot_run(error.message);
            }
        };
        runs(folder, &encoder.summary(description, checkpoint, &self.options))
    }

    fn probe_candle(&self, folder: &Path, description: &Description, checkpoint: &Checkpoint) -> ProbeResult {
        let outline = Outline::read(description)
            .and_then(|(outline, _)| told_how(description, checkpoint).map(|()| outline));
        match outline {
            Ok(outline) => runs(folder, &outline.summary(description, checkpoint, &self.options)),
            Err(error) => {
                let summary = summary::summary(description, checkpoint, None, &self.options);
                ProbeResult::exact("safetensors", summary.to_string()).cannot_run(error.message)
            }
        }
    }
}

/// What runs if the folder has a tokeniser too.
fn runs(folder: &Path, summary: &serde_json::Value) -> ProbeResult {
    let result = ProbeResult::exact("safetensors", summary.to_string());
    match folder.join("tokenizer.json").is_file() {
        true => result,
        false => result.cannot_run(NO_TOKENIZER),
    }
}

const NO_TOKENIZER: &str = "tokenizer.json is missing beside the weights: fetch the whole folder";

/// # Errors
/// `UNSUPPORTED` for weights that are rounded while config.json does not say so.
fn told_how(description: &Description, checkpoint: &Checkpoint) -> Result<(), PluginError> {
    let rounded = description.rounded()?;
    match checkpoint.entries().find(|entry| !rounded && entry.name.ends_with(".scales")) {
        None => Ok(()),
        Some(entry) => Err(PluginError::unsupported(format!(
            "tensor `{}` is of quantised weights, and config.json has no `quantization` that says how they are",
            entry.name
        ))),
    }
}

fn has_weights(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
}

export_plugin! {
    plugin: Safetensors,
    id: "safetensors",
    name: "Hugging Face checkpoints on own kernels",
    formats: [
        { id: "safetensors", extensions: ["safetensors"], priority: 100 },
        { id: "mlx", extensions: ["safetensors"], priority: 100 },
    ],
}
