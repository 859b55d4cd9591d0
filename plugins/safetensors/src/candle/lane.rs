//! One sequence's state, and the network that moves it on.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::deepseek2::DeepSeekV2;
use candle_transformers::models::{lfm2, mamba, mamba2, recurrent_gemma};

use super::families::Config;

/// A loaded network; its tensors are shared by whatever is made of it.
pub(super) enum Network {
    Mamba(mamba::Config, Arc<mamba::Model>),
    Mamba2(mamba2::Config, Arc<mamba2::Model>),
    /// With the cache of an empty sequence.
    Lfm2(Arc<lfm2::Model>, Box<lfm2::Cache>),
    /// In the state of an empty sequence.
    RecurrentGemma(Box<recurrent_gemma::Model>),
    DeepSeekV2(Arc<Config>, VarBuilder<'static>),
}

impl Network {
    /// # Errors
    /// candle's, with the tensor's name.
    pub(super) fn load(config: Config, tensors: VarBuilder<'static>) -> Result<Self> {
        Ok(match config {
            Config::Mamba(config) => {
                let model = mamba::Model::new(&config, tensors)?;
                Network::Mamba(config, Arc::new(model))
            }
            Config::Mamba2(config) => {
                let model = mamba2::Model::new(&config, tensors)?;
                Network::Mamba2(config, Arc::new(model))
            }
            Config::Lfm2(config) => {
                let cache = lfm2::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
                Network::Lfm2(Arc::new(lfm2::Model::new(&config, tensors)?), Box::new(cache))
            }
            Config::RecurrentGemma(config) => {
                let model = recurrent_gemma::Model::new(&config, tensors)?;
                Network::RecurrentGemma(Box::new(model))
            }
            config @ Config::DeepSeekV2(_) => {
                let network = Network::DeepSeekV2(Arc::new(config), tensors);
                // Asks for every tensor.
                network.lane()?;
                network
            }
        })
    }

    /// The state of an empty sequence.
    ///
    /// # Errors
    /// candle's.
    pub(super) fn lane(&self) -> Result<Lane> {
        let state = match self {
            Network::Mamba(config, model) => {
                let state = mamba::State::new(1, config, DType::F32, &Device::Cpu)?;
                State::Mamba(Arc::clone(model), state)
            }
            Network::Mamba2(config, model) => {
                let state = mamba2::State::new(1, config, DType::F32, &Device::Cpu)?;
                State::Mamba2(Arc::clone(model), state)
            }
            Network::Lfm2(model, cache) => State::Lfm2(Arc::clone(model), cache.clone()),
            Network::RecurrentGemma(model) => State::RecurrentGemma(model.clone()),
            Network::DeepSeekV2(config, tensors) => match &**config {
                Config::DeepSeekV2(config) => {
                    State::DeepSeekV2(Box::new(DeepSeekV2::new(config, tensors.clone())?))
                }
                Config::Mamba(_) | Config::Mamba2(_) | Config::Lfm2(_) | Config::RecurrentGemma(_) => {
                    candle_core::bail!("a network with another's configuration: this is a bug")
                }
            },
        };
        Ok(Lane { state, tokens: 0 })
    }
}

/// A sequence.
pub(super) struct Lane {
    state: State,
    /// Tokens that it has.
    pub(super) tokens: usize,
}

enum State {
    Mamba(Arc<mamba::Model>, mamba::State),
    Mamba2(Arc<mamba2::Model>, mamba2::State),
    Lfm2(Arc<lfm2::Model>, Box<lfm2::Cache>),
    RecurrentGemma(Box<recurrent_gemma::Model>),
    DeepSeekV2(Box<DeepSeekV2>),
}

impl Lane {
    /// How many of so many tokens may come next in one piece: candle's convolutions begin anew with a longer one.
    pub(super) fn piece(&self, tokens: usize) -> usize {
        match self.state {
            State::Mamba(..) | State::Mamba2(..) => 1,
            State::Lfm2(..) | State::RecurrentGemma(_) if self.tokens > 0 => 1,
            State::Lfm2(..) | State::RecurrentGemma(_) | State::DeepSeekV2(_) => tokens,
        }
    }

    /// Takes a piece; answers the logits behind its last token.
    ///
    /// # Errors
    /// candle's; the state is then of no use.
    pub(super) fn step(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let first = self.tokens;
        self.tokens += tokens.len();
        let row = || Tensor::new(tokens, &Device::Cpu);
        let logits = match &mut self.state {
            State::Mamba(model, state) => model.forward(&row()?, state)?,
            State::Mamba2(model, state) => model.forward(&row()?, state)?,
            State::Lfm2(model, cache) => model.forward(&row()?.unsqueeze(0)?, first, cache)?,
            State::RecurrentGemma(model) => model.forward(&row()?.unsqueeze(0)?, first)?,
            State::DeepSeekV2(model) => model.forward(&row()?.unsqueeze(0)?, first)?,
        };
        logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
    }
}
