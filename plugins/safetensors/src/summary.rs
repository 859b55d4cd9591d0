//! What a folder's headers say of a model, in the words that the host shows.

use serde_json::{Value, json};

use crate::cache::BLOCK;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::config::{Decoder, Description};
use crate::decoder::{padded, workspace_bytes};
use crate::options::{CacheType, Options};

/// The summary, as `probe` answers it. `decoder`: where the model can be run.
pub(crate) fn summary(
    description: &Description,
    checkpoint: &Checkpoint,
    decoder: Option<&Decoder>,
    options: &Options,
) -> Value {
    let bytes: u64 = checkpoint.entries().map(|entry| entry.range.len() as u64).sum();
    let config = |name: &str| description.config.get(name).cloned().unwrap_or_default();
    let text = |name: &str| config(name).as_str().map(str::to_owned);
    json!({
        "architecture": description.family(),
        "name": text("_name_or_path").filter(|name| !name.contains('/')),
        "quantization": dtype_name(checkpoint),
        "parameters": checkpoint.entries().map(|entry| entry.elements() as u64).sum::<u64>(),
        "context_length": config("max_position_embeddings"),
        "vocab_size": config("vocab_size"),
        "embedding_length": config("hidden_size"),
        "layers": config("num_hidden_layers"),
        "estimated_bytes": decoder.map(|decoder| bytes + state_bytes(decoder, checkpoint, options)),
        "chat_template": description.chat_template.is_some(),
        "license": description.license,
    })
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

/// The type that decides how keys and values are cached: that of the embedding.
pub(crate) fn weight_type(checkpoint: &Checkpoint) -> Dtype {
    let embedding = checkpoint.entries().find(|entry| entry.name.ends_with("embed_tokens.weight"));
    embedding.and_then(|entry| Dtype::of(entry.dtype)).unwrap_or(Dtype::F32)
}

/// Memory of a context with the options, beside the weights.
fn state_bytes(decoder: &Decoder, checkpoint: &Checkpoint, options: &Options) -> u64 {
    let cache_type = options.cache_type.unwrap_or_else(|| CacheType::of(weight_type(checkpoint)));
    let cells = options.context_tokens(decoder.context_length).next_multiple_of(BLOCK);
    let of_token =
        decoder.layers.len() * decoder.kv_heads * 2 * padded(decoder.head_width) * cache_type.size();
    u64::from(cells) * of_token as u64 + workspace_bytes(decoder, options.batch_tokens() as usize) as u64
}
