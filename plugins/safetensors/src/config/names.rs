//! What checkpoints call the tensors of a decoder: one table for each way of naming.
//!
//! Names without their ending (`.weight`, `.bias`); those of a layer follow its number. What a family does not have has
//! no name.

/// One way of naming.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Before all other names but the output's; checkpoints of the bare decoder do without.
    pub(crate) root: &'static str,
    pub(crate) embedding: &'static str,
    /// Learned positions.
    pub(crate) positions: Option<&'static str>,
    /// Before a layer's number.
    pub(crate) layers: &'static str,
    pub(crate) last_norm: &'static str,
    pub(crate) output: &'static str,
    pub(crate) norms: NormNames,
    pub(crate) inputs: InputNames,
    pub(crate) attention_output: &'static str,
    pub(crate) mlp: MlpNames,
    pub(crate) experts: ExpertNames,
    /// Whether matrices lie the other way round, `[in][out]` (`Conv1D` of transformers).
    pub(crate) transposed: bool,
}

/// Norms of a layer, by where they stand: the names alone do not say it (`post_attention_layernorm` is Llama's norm
/// before the feed-forward network, and Gemma's behind attention).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NormNames {
    pub(crate) before_attention: Option<&'static str>,
    /// Before what attention gives is added.
    pub(crate) behind_attention: Option<&'static str>,
    pub(crate) before_mlp: Option<&'static str>,
    pub(crate) behind_mlp: Option<&'static str>,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
}

/// Queries, keys and values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InputNames {
    Separate([&'static str; 3]),
    /// One matrix: all queries, then all keys, then all values.
    Stacked(&'static str),
    /// One matrix: of each head of keys its queries, itself and its values.
    ByHead(&'static str),
}

/// The feed-forward network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MlpNames {
    Gated {
        gate: &'static str,
        up: &'static str,
        down: &'static str,
    },
    /// Gate and up as one matrix, in this order.
    Fused {
        both: &'static str,
        down: &'static str,
    },
    /// Without a gate.
    Plain {
        up: &'static str,
        down: &'static str,
    },
}

/// A network of experts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpertNames {
    pub(crate) router: &'static str,
    /// Before an expert's number.
    pub(crate) each: &'static str,
    /// Gate, up, down.
    pub(crate) parts: [&'static str; 3],
    /// The same of all experts as one tensor each, as MLX has them.
    pub(crate) stacked: [&'static str; 3],
    /// The same with gate and up in one tensor, in this order; down.
    pub(crate) fused: Option<[&'static str; 2]>,
    /// Before the parts of the one that every row goes through.
    pub(crate) shared: &'static str,
    pub(crate) shared_gate: &'static str,
}

/// Llama's, and of most who came after it.
pub(super) const LLAMA: Names = Names {
    root: "model.",
    embedding: "embed_tokens",
    positions: None,
    layers: "layers.",
    last_norm: "norm",
    output: "lm_head",
    norms: NormNames {
        before_attention: Some("input_layernorm"),
        behind_attention: None,
        before_mlp: Some("post_attention_layernorm"),
        behind_mlp: None,
        query: "self_attn.q_norm",
        key: "self_attn.k_norm",
    },
    inputs: InputNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    attention_output: "self_attn.o_proj",
    mlp: MlpNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    experts: ExpertNames {
        router: "mlp.gate",
        each: "mlp.experts.",
        parts: ["gate_proj", "up_proj", "down_proj"],
        stacked: ["mlp.switch_mlp.gate_proj", "mlp.switch_mlp.up_proj", "mlp.switch_mlp.down_proj"],
        fused: None,
        shared: "mlp.shared_expert.",
        shared_gate: "mlp.shared_expert_gate",
    },
    transposed: false,
};

/// Norms before and behind.
pub(super) const GEMMA2: Names = Names {
    norms: NormNames {
        behind_attention: Some("post_attention_layernorm"),
        before_mlp: Some("pre_feedforward_layernorm"),
        behind_mlp: Some("post_feedforward_layernorm"),
        ..LLAMA.norms
    },
    ..LLAMA
};

/// Norms behind alone.
pub(super) const OLMO2: Names =
    Names { norms: NormNames { before_attention: None, before_mlp: None, ..GEMMA2.norms }, ..LLAMA };

pub(super) const PHI3: Names = Names {
    inputs: InputNames::Stacked("self_attn.qkv_proj"),
    mlp: MlpNames::Fused { both: "mlp.gate_up_proj", down: "mlp.down_proj" },
    ..LLAMA
};

pub(super) const GLM: Names = Names { mlp: PHI3.mlp, ..LLAMA };

pub(super) const GLM4: Names = Names {
    norms: NormNames {
        behind_attention: Some("post_self_attn_layernorm"),
        behind_mlp: Some("post_mlp_layernorm"),
        ..LLAMA.norms
    },
    ..GLM
};

pub(super) const STARCODER2: Names =
    Names { mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" }, ..LLAMA };

pub(super) const STABLELM: Names = Names {
    norms: NormNames {
        query: "self_attn.q_layernorm.norms",
        key: "self_attn.k_layernorm.norms",
        ..LLAMA.norms
    },
    ..LLAMA
};

pub(super) const GPT_NEOX: Names = Names {
    root: "gpt_neox.",
    embedding: "embed_in",
    last_norm: "final_layer_norm",
    output: "embed_out",
    inputs: InputNames::ByHead("attention.query_key_value"),
    attention_output: "attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    ..LLAMA
};

pub(super) const GPT2: Names = Names {
    root: "transformer.",
    embedding: "wte",
    positions: Some("wpe"),
    layers: "h.",
    last_norm: "ln_f",
    norms: NormNames { before_attention: Some("ln_1"), before_mlp: Some("ln_2"), ..LLAMA.norms },
    inputs: InputNames::Stacked("attn.c_attn"),
    attention_output: "attn.c_proj",
    mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    transposed: true,
    ..LLAMA
};

/// GPT-2's with matrices the usual way; one head of keys for all queries, or one for each.
pub(super) const GPT_BIGCODE: Names = Names { transposed: false, ..GPT2 };
pub(super) const GPT_BIGCODE_HEADS: Names =
    Names { inputs: InputNames::ByHead("attn.c_attn"), ..GPT_BIGCODE };

pub(super) const GPTJ: Names = Names {
    positions: None,
    inputs: InputNames::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    attention_output: "attn.out_proj",
    mlp: MlpNames::Plain { up: "mlp.fc_in", down: "mlp.fc_out" },
    ..GPT_BIGCODE
};

pub(super) const PHI: Names = Names {
    last_norm: "final_layernorm",
    norms: NormNames { query: "self_attn.q_layernorm", key: "self_attn.k_layernorm", ..LLAMA.norms },
    attention_output: "self_attn.dense",
    mlp: MlpNames::Plain { up: "mlp.fc1", down: "mlp.fc2" },
    ..LLAMA
};

/// One head of keys for all queries.
pub(super) const FALCON: Names = Names {
    root: "transformer.",
    embedding: "word_embeddings",
    layers: "h.",
    last_norm: "ln_f",
    inputs: InputNames::Stacked("self_attention.query_key_value"),
    attention_output: "self_attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    ..LLAMA
};
/// The matrices of each head of keys together.
pub(super) const FALCON_HEADS: Names =
    Names { inputs: InputNames::ByHead("self_attention.query_key_value"), ..FALCON };
/// The same with a norm for each branch.
pub(super) const FALCON_NORMS: Names = Names {
    norms: NormNames { before_attention: Some("ln_attn"), before_mlp: Some("ln_mlp"), ..LLAMA.norms },
    ..FALCON_HEADS
};

pub(super) const MIXTRAL: Names = Names {
    experts: ExpertNames {
        router: "block_sparse_moe.gate",
        each: "block_sparse_moe.experts.",
        parts: ["w1", "w3", "w2"],
        stacked: [
            "block_sparse_moe.switch_mlp.gate_proj",
            "block_sparse_moe.switch_mlp.up_proj",
            "block_sparse_moe.switch_mlp.down_proj",
        ],
        ..LLAMA.experts
    },
    ..LLAMA
};

pub(super) const GRANITE_MOE: Names = Names {
    experts: ExpertNames {
        router: "block_sparse_moe.router.layer",
        fused: Some(["block_sparse_moe.input_linear", "block_sparse_moe.output_linear"]),
        ..MIXTRAL.experts
    },
    ..LLAMA
};
