//! What a folder's headers say of a model, in the words that the host shows.

use serde_json::{Value, json};

use crate::cache::BLOCK;
use crate::checkpoint::{Checkpoint, Dtype, Entry, Rounding};
use crate::config::{Decoder, Description, InputNames, MlpNames};
use crate::decoder::{padded, workspace_bytes};
use crate::options::{CacheType, Options, Quantize};

/// The summary, as `probe` answers it. `decoder`: where the model can be run.
pub(crate) fn summary(
    description: &Description,
    checkpoint: &Checkpoint,
    decoder: Option<&Decoder>,
    options: &Options,
) -> Value {
    let config = |name: &str| description.config.get(name).cloned().unwrap_or_default();
    let text = |name: &str| config(name).as_str().map(str::to_owned);
    // Families have names of their own for these.
    let figure =
        |name: &str, of: fn(&Decoder) -> usize| decoder.map_or(config(name), |decoder| of(decoder).into());
    let weights = Weights { description, checkpoint, options, decoder };
    let bytes = |decoder| weights.bytes() + state_bytes(decoder, checkpoint, options);
    json!({
        "architecture": description.family(),
        "name": text("_name_or_path").filter(|name| !name.contains('/')),
        "quantization": weights.name(),
        "parameters": checkpoint.entries().map(|entry| weights.numbers(entry)).sum::<u64>(),
        "context_length": figure("max_position_embeddings", |decoder| decoder.context_length),
        "vocab_size": config("vocab_size"),
        "embedding_length": figure("hidden_size", |decoder| decoder.hidden),
        "layers": figure("num_hidden_layers", |decoder| decoder.layers.len()),
        "estimated_bytes": decoder.map(bytes),
        "weight_bytes": weights.bytes(),
        "experts": EXPERTS.iter().find_map(|name| description.config.get(*name)?.as_u64()),
        "chat_template": description.chat_template.is_some(),
        "license": description.license,
    })
}

/// What families call the number of their experts.
const EXPERTS: [&str; 4] = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"];

/// Weights as they will be in memory.
struct Weights<'a> {
    description: &'a Description,
    checkpoint: &'a Checkpoint,
    options: &'a Options,
    decoder: Option<&'a Decoder>,
}

impl Weights<'_> {
    /// What the numbers are stored as, in the words that people use.
    fn name(&self) -> String {
        match (self.by_mlx(), self.options.quantize) {
            (true, _) => format!("{}-bit", self.bits("")),
            (false, Some(quantize)) => format!("{} to {quantize}", dtype_name(self.checkpoint)),
            (false, None) => dtype_name(self.checkpoint),
        }
    }

    fn by_mlx(&self) -> bool {
        self.description.rounded().unwrap_or(false)
    }

    /// Bits of a module's codes: its own, or those of all.
    fn bits(&self, module: &str) -> u64 {
        let config = &self.description.config;
        let all = config.get("quantization").or(config.get("quantization_config")).unwrap_or(&Value::Null);
        all[module]["bits"].as_u64().or(all["bits"].as_u64()).unwrap_or(8).max(1)
    }

    /// Numbers of the model that a tensor holds.
    fn numbers(&self, entry: &Entry) -> u64 {
        let elements = entry.elements() as u64;
        match entry.name.rsplit_once('.') {
            Some((_, "scales" | "biases")) if self.by_mlx() => 0,
            Some((module, "weight")) if entry.dtype == safetensors::Dtype::U32 => {
                elements * 32 / self.bits(module)
            }
            _ => elements,
        }
    }

    fn bytes(&self) -> u64 {
        self.checkpoint.entries().map(|entry| self.bytes_of(entry)).sum()
    }

    fn bytes_of(&self, entry: &Entry) -> u64 {
        let stored = entry.range.len() as u64;
        if entry.dtype == safetensors::Dtype::U32 {
            let module = entry.name.strip_suffix(".weight").unwrap_or(&entry.name);
            // In a panel, codes take four or eight bits.
            return self.numbers(entry) * if self.bits(module) <= 4 { 4 } else { 8 } / 8;
        }
        let rounding = self.options.quantize.filter(|_| !self.by_mlx()).map(Quantize::rounding);
        let (rows, columns) = match *entry.shape.as_slice() {
            [rows, columns] => (rows, columns),
            [count, rows, columns] => (count * rows, columns),
            _ => return stored,
        };
        let Some(rounding) = rounding else { return stored };
        let fine = self.fine_rows(entry, rows);
        let bytes =
            |rounding: Rounding, rows| rounding.layout(rows, columns).map(|layout| layout.bytes() as u64);
        let layout = bytes(rounding, rows - fine).zip(bytes(rounding.fine(), fine));
        let rounded = layout.map_or(stored, |(coarse, fine)| coarse + fine);
        // Looked up as it is; where it is the output matrix too, that is rounded.
        if EMBEDDINGS.iter().any(|name| entry.name.ends_with(&format!("{name}.weight"))) {
            return bytes(rounding.fine(), rows).map_or(stored, |output| stored + output);
        }
        rounded
    }

    /// How many of a tensor's rows keep eight bits.
    fn fine_rows(&self, entry: &Entry, rows: usize) -> usize {
        let Some(decoder) = self.decoder else { return 0 };
        let Decoder { names, heads, kv_heads, .. } = decoder;
        let is = |name: &str| entry.name.ends_with(&format!("{name}.weight"));
        let down = match names.mlp {
            MlpNames::Gated { down, .. } | MlpNames::Fused { down, .. } | MlpNames::Plain { down, .. } => {
                down
            }
        };
        let experts = &names.experts;
        let downs =
            [Some(down), Some(experts.parts[2]), Some(experts.stacked[2]), experts.fused.map(|both| both[1])];
        if is("lm_head") || is(names.output) || downs.into_iter().flatten().any(is) {
            return rows;
        }
        match names.inputs {
            InputNames::Separate([_, key, value]) if is(key) || is(value) => rows,
            InputNames::Separate(_) => 0,
            InputNames::Stacked(all) | InputNames::ByHead(all) if is(all) => {
                rows / (heads + 2 * kv_heads) * 2 * kv_heads
            }
            InputNames::Stacked(_) | InputNames::ByHead(_) => 0,
        }
    }
}

/// The type of most of the weights' bytes, as people write it.
fn dtype_name(checkpoint: &Checkpoint) -> String {
    let mut by_type: Vec<(safetensors::Dtype, usize)> = Vec::new();
    for entry in checkpoint.entries() {
        match by_type.iter_mut().find(|(dtype, _)| *dtype == entry.dtype) {
            Some((_, bytes)) => *bytes += entry.range.len(),
            None => by_type.push((entry.dtype, entry.range.len())),
        }
    }
    let most = by_type.into_iter().max_by_key(|&(_, bytes)| bytes);
    most.map_or_else(|| "unknown".to_owned(), |(dtype, _)| format!("{dtype:?}"))
}

/// What families call their embeddings.
const EMBEDDINGS: [&str; 4] = ["embed_tokens", "wte", "embed_in", "word_embeddings"];

/// The type that decides how keys and values are cached: that of the embedding, or of its scales.
pub(crate) fn weight_type(checkpoint: &Checkpoint) -> Dtype {
    let of = |name: &str| {
        let entry = checkpoint.entries().find(|entry| entry.name.ends_with(name));
        entry.and_then(|entry| Dtype::of(entry.dtype))
    };
    EMBEDDINGS
        .iter()
        .flat_map(|name| [format!("{name}.weight"), format!("{name}.scales")])
        .find_map(|name| of(&name))
        .unwrap_or(Dtype::F32)
}

/// Memory of a context with the options, beside the weights.
fn state_bytes(decoder: &Decoder, checkpoint: &Checkpoint, options: &Options) -> u64 {
    let cache_type = options.cache_type.unwrap_or_else(|| CacheType::of(weight_type(checkpoint)));
    let cells = options.context_tokens(decoder.context_length).next_multiple_of(BLOCK);
    let of_token =
        decoder.layers.len() * decoder.kv_heads * 2 * padded(decoder.head_width) * cache_type.size();
    u64::from(cells) * of_token as u64 + workspace_bytes(decoder, options.batch_tokens() as usize) as u64
}
