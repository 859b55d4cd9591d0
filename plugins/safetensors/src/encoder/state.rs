//! The working state of an encoder: threads and buffers, behind the contract.

use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{EmbeddingLimits, PluginError, Token};

use super::machine::{Batch, Buffers, Machine};
use super::model::{EncoderModel, Weights};

/// Threads and buffers of one encoder.
pub(crate) struct EncoderState {
    model: Arc<EncoderModel>,
    engine: Engine,
}

enum Engine {
    Own { machine: Box<Machine>, buffers: Buffers },
    Candle(rayon::ThreadPool),
}

/// Tokens of one batch where sequences are shorter: enough rows for the kernels, and soon done.
const BATCH_TOKENS: usize = 2048;
/// Sequences of one batch: short ones fill the rows.
const BATCH_SEQUENCES: u32 = 512;

impl EncoderState {
    /// # Errors
    /// `INTERNAL` when no threads can be had.
    pub(crate) fn new(model: Arc<EncoderModel>) -> Result<Self, PluginError> {
        let threads = model.options.threads.unwrap_or(model.default_threads).max(1) as usize;
        let engine = match model.weights {
            Weights::Bert(_) => Engine::Own {
                machine: Box::new(Machine::new(threads, model.options.level())),
                buffers: Buffers::default(),
            },
            Weights::Candle(_) => Engine::Candle(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|number| format!("encode-{number}"))
                    .build()
                    .map_err(|error| PluginError::internal(format!("no threads for candle: {error}")))?,
            ),
        };
        Ok(EncoderState { model, engine })
    }
}

impl sdk::Embedder for EncoderState {
    fn limits(&self) -> EmbeddingLimits {
        let encoder = &self.model.encoder;
        let figure = |figure: usize| u32::try_from(figure).unwrap_or(u32::MAX);
        EmbeddingLimits {
            dimensions: figure(encoder.hidden),
            sequence_tokens: figure(encoder.longest),
            batch_tokens: figure(encoder.longest.max(BATCH_TOKENS)),
            batch_sequences: BATCH_SEQUENCES,
        }
    }

    fn metadata_json(&self) -> String {
        self.model.encoder.pooling.metadata().to_string()
    }

    fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError> {
        let (pooling, width) = (&self.model.encoder.pooling, self.model.encoder.hidden);
        let ids: Vec<Vec<u32>> =
            sequences.iter().map(|tokens| tokens.iter().map(|token| token.0).collect()).collect();
        let mut vectors = Vec::with_capacity(sequences.len() * width);
        match (&mut self.engine, &self.model.weights) {
            (Engine::Own { machine, buffers }, Weights::Bert(bert)) => {
                let batch = Batch::new(ids.iter().map(Vec::as_slice));
                bert.forward(machine, buffers, &batch);
                for rows in &batch.sequences {
                    vectors
                        .extend(pooling.vector(&buffers.stream[rows.start * width..rows.end * width], width));
                }
            }
            (Engine::Candle(pool), Weights::Candle(model)) => {
                let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
                for rows in model.rows(pool, &ids)? {
                    vectors.extend(pooling.vector(&rows, width));
                }
            }
            (Engine::Own { .. }, Weights::Candle(_)) | (Engine::Candle(_), Weights::Bert(_)) => {
                return Err(PluginError::internal("an encoder's engine is not its weights': this is a bug"));
            }
        }
        Ok(vectors)
    }
}
