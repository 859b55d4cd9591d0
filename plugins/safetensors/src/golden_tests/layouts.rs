//! The same checkpoints with their tensors under other names or in other shapes, as others write them.

use safetensors::tensor::{SafeTensors, TensorView};

use super::*;

type Tensor = (String, Vec<usize>, Vec<u8>);

/// Copies a checkpoint, its tensors changed.
fn rewritten(case: &str, change: impl FnOnce(Vec<Tensor>) -> Vec<Tensor>) -> tempfile::TempDir {
    let (from, to) = (folder().join(case), tempfile::tempdir().unwrap());
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(from.join(file), to.path().join(file)).unwrap();
    }
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let changed =
        change(tensors.map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec())).collect());
    let views: Vec<(&str, TensorView<'_>)> = changed
        .iter()
        .map(|(name, shape, data)| {
            let view = TensorView::new(safetensors::Dtype::BF16, shape.clone(), data);
            (name.as_str(), view.unwrap())
        })
        .collect();
    let views = views.iter().map(|(name, view)| (*name, view));
    safetensors::serialize_to_file(views, None, &to.path().join("model.safetensors")).unwrap();
    to
}

fn check_rewritten(case: &str, change: impl FnOnce(Vec<Tensor>) -> Vec<Tensor>) {
    let folder = rewritten(case, change);
    let Answers { rows, cases, .. } = answers();
    let level = Level::Portable;
    let options = Options { cache_type: Some(CacheType::F32), kernels: Some(level), ..Options::default() };
    let mut context = context_of(model(folder.path(), options));
    check_context(case, &cases[case], &rows, &mut context, (level, 1e-3));
}

#[test]
fn a_decoder_without_its_prefix_and_with_its_mask_is_read() {
    check_rewritten("gpt2", |tensors| {
        let bare = |name: String| name.strip_prefix("transformer.").map(str::to_owned).unwrap_or(name);
        let mut tensors: Vec<Tensor> =
            tensors.into_iter().map(|(name, shape, data)| (bare(name), shape, data)).collect();
        tensors.push(("h.0.attn.bias".to_owned(), vec![1, 1, 2, 2], vec![0; 8]));
        tensors
    });
}

#[test]
fn experts_in_one_tensor_are_read() {
    check_rewritten("mixtral", |tensors| {
        let (experts, mut others): (Vec<Tensor>, Vec<Tensor>) =
            tensors.into_iter().partition(|(name, _, _)| name.contains(".experts."));
        let mut together: BTreeMap<String, Vec<(usize, Tensor)>> = BTreeMap::new();
        for tensor in experts {
            // model.layers.N.block_sparse_moe.experts.E.w1.weight
            let parts: Vec<&str> = tensor.0.split('.').collect();
            let part = match parts[6] {
                "w1" => "gate_proj",
                "w3" => "up_proj",
                _ => "down_proj",
            };
            let name = format!("{}.switch_mlp.{part}.weight", parts[..4].join("."));
            let expert = parts[5].parse().unwrap();
            together.entry(name).or_default().push((expert, tensor));
        }
        for (name, mut parts) in together {
            parts.sort_by_key(|(expert, _)| *expert);
            let shape = std::iter::once(parts.len()).chain(parts[0].1.1.iter().copied()).collect();
            let data = parts.into_iter().flat_map(|(_, (_, _, data))| data).collect();
            others.push((name, shape, data));
        }
        others
    });
}

#[test]
fn a_tensor_too_many_is_refused_by_name() {
    let folder = rewritten("gpt_neox", |mut tensors| {
        tensors.push(("gpt_neox.layers.0.mlp.surplus".to_owned(), vec![1], vec![0; 2]));
        tensors
    });
    let error = DecoderModel::load(folder.path(), Options::default(), 1, |_| Flow::Continue).err().unwrap();
    assert!(error.message.contains("`gpt_neox.layers.0.mlp.surplus`"), "{}", error.message);
}

/// Tied embeddings, and an output matrix that is there all the same: the same numbers, or none that anybody meant.
#[test]
fn a_second_output_matrix_is_the_embedding_or_refused() {
    let with_output = |change: u8| {
        move |mut tensors: Vec<Tensor>| {
            let embedding = tensors.iter().find(|(name, _, _)| name == "model.embed_tokens.weight").unwrap();
            let (shape, mut data) = (embedding.1.clone(), embedding.2.clone());
            data[0] ^= change;
            tensors.retain(|(name, _, _)| name != "lm_head.weight");
            tensors.push(("lm_head.weight".to_owned(), shape, data));
            tensors
        }
    };
    check_rewritten("gemma", with_output(0));
    let folder = rewritten("gemma", with_output(1));
    let error = DecoderModel::load(folder.path(), Options::default(), 1, |_| Flow::Continue).err().unwrap();
    assert!(error.message.contains("`lm_head.weight` differs from the embedding"), "{}", error.message);
}
