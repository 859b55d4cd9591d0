//! What a header says about a model, in the words that the host shows, and whether it can be run.

use serde_json::{Value, json};

use crate::caches::{LANES, lane_tokens};
use crate::embedder::Pooling;
use crate::header::{Header, file_type_name};
use crate::options::Options;

/// Architectures that turn text into vectors: they generate nothing.
const ENCODERS: [&str; 9] = [
    "bert",
    "eurobert",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "gemma-embedding",
];

/// Things that GGUF files carry which are no language model by themselves.
const COMPANIONS: [(&str, &str); 3] = [
    ("clip", "it is the vision part of a model, not a language model"),
    ("t5encoder", "it is the encoder of a T5, which gguf does not serve"),
    ("imatrix", "it is an importance matrix for quantisation, not a model"),
];

/// Memory for llama.cpp's intermediate results and the runtime itself, beside weights and cache.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// The summary, as `probe` answers it.
pub(crate) fn summary(header: &Header, options: &Options) -> Value {
    let architecture = header.text("general.architecture").unwrap_or("unknown");
    let number = |key: &str| header.number(&format!("{architecture}.{key}"));
    let context_length = number("context_length");
    let weight_bytes: u64 = header.tensors.iter().map(|tensor| tensor.bytes).sum();
    let vocab_size = header.array_length("tokenizer.ggml.tokens").or_else(|| number("vocab_size"));
    let cells =
        options.context_tokens(context_length.and_then(|length| u32::try_from(length).ok()).unwrap_or(0));
    let logits_bytes = vocab_size.unwrap_or(0) * u64::from(options.micro_batch_tokens()) * 4;
    // An encoder keeps nothing between two batches.
    let state_bytes = match is_encoder(header) {
        true => 0,
        false => {
            let bytes = |cells| cache_bytes(header, architecture, cells, options);
            let has_window = number("attention.sliding_window").unwrap_or(0) > 0;
            let lane_tokens = if has_window { 0 } else { lane_tokens(options, cells, bytes) };
            bytes(cells + lane_tokens * LANES) + logits_bytes
        }
    };
    let estimated = weight_bytes + state_bytes + OVERHEAD_BYTES;
    json!({
        "architecture": architecture,
        "name": header.text("general.name"),
        "quantization": quantization(header),
        "parameters": header.tensors.iter().map(|tensor| tensor.elements).sum::<u64>(),
        "context_length": context_length,
        "vocab_size": vocab_size,
        "embedding_length": number("embedding_length"),
        "layers": number("block_count"),
        "estimated_bytes": estimated,
        "weight_bytes": weight_bytes,
        "experts": number("expert_count"),
        "chat_template": header.text("tokenizer.chat_template").is_some(),
        "license": header.text("general.license"),
        "capabilities": is_encoder(header).then_some(["embeddings"]),
        "gguf_version": header.version,
    })
}

/// Why a sound file cannot be run, if so.
pub(crate) fn obstacle(header: &Header) -> Option<String> {
    let Some(architecture) = header.text("general.architecture") else {
        return Some("the file does not say its architecture (`general.architecture` is missing)".to_owned());
    };
    if let Some((_, what)) = COMPANIONS.iter().find(|(name, _)| *name == architecture) {
        return Some((*what).to_owned());
    }
    if header.tensors.is_empty() {
        return Some("the file has no weights: it is a vocabulary or metadata alone".to_owned());
    }
    if header.metadata.contains_key("adapter.type") {
        return Some("it is an adapter (LoRA), not a model".to_owned());
    }
    if is_encoder(header) && pooling(header).is_none() {
        return Some(match header.number(&format!("{architecture}.pooling_type")) {
            None | Some(0) => format!(
                "the file does not say how an encoder's rows become a vector (`{architecture}.pooling_type` is missing)"
            ),
            Some(number) => format!(
                "`{architecture}.pooling_type` is {number}; supported are 1 (mean), 2 (cls) and 3 (last)"
            ),
        });
    }
    None
}

/// Whether it makes vectors alone.
pub(crate) fn is_encoder(header: &Header) -> bool {
    header.text("general.architecture").is_some_and(|architecture| ENCODERS.contains(&architecture))
}

/// How its rows become a vector, where it says so.
pub(crate) fn pooling(header: &Header) -> Option<Pooling> {
    let architecture = header.text("general.architecture")?;
    Pooling::of(header.number(&format!("{architecture}.pooling_type"))?)
}

/// The name of the file's type; where it has none, of the type that most of its bytes have.
fn quantization(header: &Header) -> String {
    if let Some(name) = header.number("general.file_type").and_then(file_type_name) {
        return name.to_owned();
    }
    let mut by_type: Vec<(&str, u64)> = Vec::new();
    for tensor in &header.tensors {
        match by_type.iter_mut().find(|(name, _)| *name == tensor.kind.name) {
            Some((_, bytes)) => *bytes += tensor.bytes,
            None => by_type.push((tensor.kind.name, tensor.bytes)),
        }
    }
    by_type.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("unknown", |(name, _)| name).to_owned()
}

/// Bytes of keys and values for so many tokens.
fn cache_bytes(header: &Header, architecture: &str, cells: u32, options: &Options) -> u64 {
    let largest = |key: &str| header.largest(&format!("{architecture}.{key}"));
    let layers = largest("block_count").unwrap_or(0);
    let heads = largest("attention.head_count").unwrap_or(1).max(1);
    let kv_heads = largest("attention.head_count_kv").unwrap_or(heads);
    let default_width = largest("embedding_length").unwrap_or(0) / heads;
    let keys = largest("attention.key_length").unwrap_or(default_width) as f64 * options.cache_type_k.bits();
    let values =
        largest("attention.value_length").unwrap_or(default_width) as f64 * options.cache_type_v.bits();
    (f64::from(cells) * layers as f64 * kv_heads as f64 * (keys + values) / 8.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::tests::{Writer, read};

    #[test]
    fn a_summary_has_the_figures() {
        let file = Writer::default()
            .text("general.architecture", "llama")
            .text("general.name", "Tiny")
            .text("tokenizer.chat_template", "{{ messages }}")
            .number("general.file_type", 15)
            .number("llama.context_length", 128)
            .number("llama.block_count", 2)
            .number("llama.embedding_length", 64)
            .number("llama.attention.head_count", 4)
            .number("llama.attention.head_count_kv", 2)
            .number("llama.vocab_size", 100)
            .tensor("token_embd.weight", &[64, 100])
            .file();
        let found = summary(&read(&file).unwrap(), &Options::default());
        assert_eq!(found["architecture"], "llama");
        assert_eq!(found["quantization"], "Q4_K_M");
        assert_eq!(found["parameters"], 6400);
        assert_eq!(found["chat_template"], true);
        // 128 cells, 2 layers, 2 heads of 16, keys and values, 2 bytes each; logits of 512 rows.
        let expected = 25_600 + 128 * 2 * 2 * 16 * 2 * 2 + 100 * 512 * 4 + OVERHEAD_BYTES;
        assert_eq!(found["estimated_bytes"], expected);
    }

    #[test]
    fn lanes_are_part_of_the_estimate() {
        let file = |window: u32| {
            Writer::default()
                .text("general.architecture", "llama")
                .number("llama.context_length", 8192)
                .number("llama.block_count", 2)
                .number("llama.embedding_length", 64)
                .number("llama.attention.head_count", 4)
                .number("llama.attention.sliding_window", window)
                .tensor("token_embd.weight", &[64, 100])
                .file()
        };
        let estimate = |window: u32, options: &Options| {
            summary(&read(&file(window)).unwrap(), options)["estimated_bytes"].as_u64().unwrap()
        };
        let none = Options { lane_tokens: Some(0), ..Options::default() };
        let cell = 2 * 64 * 2 * 2;
        assert_eq!(estimate(0, &Options::default()) - estimate(0, &none), u64::from(LANES) * 1024 * cell);
        assert_eq!(estimate(64, &Options::default()), estimate(0, &none));
    }

    #[test]
    fn without_a_file_type_the_bytes_decide() {
        let file = Writer::default().text("general.architecture", "llama").tensor("t", &[8]).file();
        assert_eq!(summary(&read(&file).unwrap(), &Options::default())["quantization"], "F32");
    }

    #[test]
    fn what_cannot_run_says_why() {
        let of = |architecture: &str| Writer::default().text("general.architecture", architecture);
        for (writer, expected) in [
            (of("bert").tensor("t", &[8]), "`bert.pooling_type` is missing"),
            (of("bert").number("bert.pooling_type", 4).tensor("t", &[8]), "is 4"),
            (of("t5encoder").tensor("t", &[8]), "encoder of a T5"),
            (of("clip").tensor("t", &[8]), "vision part"),
            (of("llama"), "no weights"),
            (of("llama").text("adapter.type", "lora").tensor("t", &[8]), "adapter"),
            (Writer::default().tensor("t", &[8]), "general.architecture"),
        ] {
            let reason = obstacle(&read(&writer.file()).unwrap()).unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
        for sound in [of("llama"), of("bert").number("bert.pooling_type", 1)] {
            assert_eq!(obstacle(&read(&sound.tensor("t", &[8]).file()).unwrap()), None);
        }
    }
}
