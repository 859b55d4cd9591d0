//! A model that embeds, through the exported root symbol as the host goes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use impetus_plugin_api::abi_stable::library::LibHeader;
use impetus_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use impetus_plugin_api::abi_stable::std_types::{ROption, RStr};
use impetus_plugin_api::{export_plugin, sdk::*, *};

/// Counts letters; 3 makes it panic, 2 makes it answer too little.
struct Counts;

impl FormatPlugin for Counts {
    type Model = Letters;
    fn init(_: HostApi, _: &str) -> Result<Self, PluginError> {
        Ok(Counts)
    }
    fn probe(&self, _: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
        Ok(ProbeResult::not_mine())
    }
    fn load_model(&self, request: &LoadRequest<'_>, _: Progress) -> Result<Letters, PluginError> {
        Ok(Letters { embeds: request.path.as_str() != "plain" })
    }
}

struct Letters {
    embeds: bool,
}

impl Model for Letters {
    type Context = Nothing;
    fn metadata_json(&self) -> String {
        "{}".to_owned()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    fn vocab_size(&self) -> u32 {
        4
    }
    fn tokenize(&self, _: &str, _: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        Ok(Vec::new())
    }
    fn token_bytes(&self, _: Token) -> Result<Vec<u8>, PluginError> {
        Ok(Vec::new())
    }
    fn is_end_of_generation(&self, _: Token) -> bool {
        false
    }
    fn new_context(self: Arc<Self>, _: &str) -> Result<Nothing, PluginError> {
        Err(PluginError::unsupported("it only counts"))
    }
    fn extension(&self, name: &str) -> Option<Extension> {
        (self.embeds && name == EMBEDDINGS).then(embeddings::<Self>)
    }
}

impl Embedding for Letters {
    type Embedder = Counter;
    fn new_embedder(self: Arc<Self>, params_json: &str) -> Result<Counter, PluginError> {
        assert!(params_json != "panic", "told to panic");
        let dimensions = if params_json == "nothing" { 0 } else { 4 };
        Ok(Counter(EmbeddingLimits { dimensions, sequence_tokens: 5, batch_tokens: 8, batch_sequences: 3 }))
    }
}

struct Counter(EmbeddingLimits);

impl Embedder for Counter {
    fn limits(&self) -> EmbeddingLimits {
        self.0
    }
    fn metadata_json(&self) -> String {
        r#"{"pooling": "count"}"#.to_owned()
    }
    fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError> {
        let has = |id| sequences.iter().any(|tokens| tokens.contains(&Token(id)));
        assert!(!has(3), "told to panic");
        let count = |tokens: &[Token], id| tokens.iter().filter(|token| token.0 == id).count() as f32;
        let mut counts: Vec<f32> =
            sequences.iter().flat_map(|tokens| (0..4).map(move |id| count(tokens, id))).collect();
        counts.truncate(if has(2) { 1 } else { counts.len() });
        Ok(counts)
    }
}

struct Nothing;

impl Context for Nothing {
    fn limits(&self) -> ContextLimits {
        ContextLimits { total_tokens: 1, sequence_tokens: 1, max_sequences: 1, batch_tokens: 1 }
    }
    fn decode(&mut self, _: Batch<'_>) -> Result<(), PluginError> {
        Ok(())
    }
    fn logits(&self, _: usize) -> Result<&[f32], PluginError> {
        Ok(&[])
    }
    fn seq_rm(&mut self, _: SeqId, _: PosRange) -> Result<(), PluginError> {
        Ok(())
    }
    fn seq_cp(&mut self, _: SeqId, _: SeqId, _: PosRange) -> Result<(), PluginError> {
        Ok(())
    }
    fn seq_pos_max(&self, _: SeqId) -> Option<Position> {
        None
    }
    fn clear(&mut self) -> Result<(), PluginError> {
        Ok(())
    }
}

export_plugin! {
    plugin: Counts,
    id: "counts",
    name: "Counts letters",
    formats: [{ id: "counts", extensions: ["counts"], priority: 100 }],
}

#[allow(improper_ctypes)]
unsafe extern "C" {
    #[link_name = "impetus_plugin_root"]
    static DOOR: LibHeader;
}

extern "C" fn log(_: usize, _: LogLevel, _: RStr<'_>, _: RStr<'_>) {}
extern "C" fn thread_budget(_: usize) -> u32 {
    1
}
extern "C" fn no_extension(_: usize, _: RStr<'_>) -> ROption<Extension> {
    ROption::RNone
}

struct Silent;
impl ProgressSink for Silent {
    fn report(&self, _: f32) -> Flow {
        Flow::Continue
    }
}

fn plugin() -> PluginRef {
    // SAFETY: `export_plugin!` above exports this symbol with this type.
    let plugin = unsafe { &DOOR }.init_root_module::<PluginRef>().unwrap();
    let host =
        HostApi { handle: 0, max_log_level: LogLevel::Info, log, thread_budget, extension: no_extension };
    // Another test may have started it.
    let _ = plugin.init()(host, "{}".into());
    plugin
}

fn load(path: &str) -> ModelBox {
    let request = LoadRequest { path: path.into(), format: "counts".into(), options_json: "{}".into() };
    plugin().load_model()(&request, ProgressSink_TO::from_value(Silent, TD_Opaque)).unwrap()
}

fn table(model: &ModelBox) -> &'static EmbeddingsTable {
    let offered = model.extension(EMBEDDINGS.into()).into_option().unwrap();
    offered.table::<EmbeddingsTable>(EMBEDDINGS).unwrap()
}

fn embed(embedder: &mut EmbedderBox, tokens: &[u32], lengths: &[u32]) -> Result<Vec<f32>, PluginError> {
    let tokens: Vec<Token> = tokens.iter().copied().map(Token).collect();
    let batch = EmbeddingBatch { tokens: tokens.as_slice().into(), lengths: lengths.into() };
    embedder.embed(batch).into_result().map(Into::into)
}

#[test]
fn sequences_become_vectors_and_the_embedder_keeps_its_model() {
    let model = load("letters");
    let mut embedder = (table(&model).new_embedder)(&model, "{}".into()).unwrap();
    drop(model);
    let expected = EmbeddingLimits { dimensions: 4, sequence_tokens: 5, batch_tokens: 8, batch_sequences: 3 };
    assert_eq!(embedder.limits(), expected);
    assert_eq!(embedder.metadata_json().unwrap().as_str(), r#"{"pooling": "count"}"#);
    let vectors = embed(&mut embedder, &[0, 1, 1, 0], &[3, 1]).unwrap();
    assert_eq!(vectors, [1.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn batches_that_break_the_contract_never_reach_the_plugin() {
    let model = load("letters");
    let mut embedder = (table(&model).new_embedder)(&model, "{}".into()).unwrap();
    for (tokens, lengths, words) in [
        (vec![], vec![], "1 to 3 sequences"),
        (vec![0; 4], vec![1; 4], "1 to 3 sequences"),
        (vec![0, 0], vec![1], "found 1 for 2"),
        (vec![0], vec![u32::MAX, 2], "for 1 tokens"),
        (vec![0; 9], vec![3, 3, 3], "at most 8"),
        (vec![0; 6], vec![6], "1 to 5 tokens; found 6"),
        (vec![0], vec![1, 0], "1 to 5 tokens; found 0"),
        (vec![4], vec![1], "beyond the vocabulary of 4"),
    ] {
        let error = embed(&mut embedder, &tokens, &lengths).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_ARGUMENT, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
    assert_eq!(embed(&mut embedder, &[0], &[1]).unwrap(), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_panic_is_an_error_and_poisons_the_embedder_alone() {
    let model = load("letters");
    let table = table(&model);
    let make = |params: &str| (table.new_embedder)(&model, params.into()).into_result();
    let mut embedder = make("{}").unwrap();
    let short = embed(&mut embedder, &[2], &[1]).unwrap_err();
    assert_eq!(short.code, ErrorCode::INTERNAL);
    assert!(short.message.contains("1 numbers for 1 vectors of 4"), "{}", short.message);
    assert_eq!(embed(&mut embedder, &[3], &[1]).unwrap_err().code, ErrorCode::PANICKED);
    assert_eq!(embed(&mut embedder, &[0], &[1]).unwrap_err().code, ErrorCode::POISONED);
    let mut another = make("{}").unwrap();
    assert!(embed(&mut another, &[0], &[1]).is_ok());
    assert!(make("nothing").err().unwrap().message.contains("limits of no use"));
    assert_eq!(make("panic").err().unwrap().code, ErrorCode::PANICKED);
    assert_eq!(make("{}").err().unwrap().code, ErrorCode::POISONED, "the model itself panicked");
    assert!(model.extension(EMBEDDINGS.into()).is_none());
}

#[test]
fn a_model_without_it_offers_nothing() {
    assert!(load("plain").extension(EMBEDDINGS.into()).is_none());
    assert!(load("letters").extension("embeddings/2".into()).is_none());
}
