//! Embeddings: texts in, one vector for each out, batched across requests. On the engine's thread, beside what is
//! generated there, or alone for a model that generates nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::Settings;
use super::message::{Command, Event, FinishReason, Input, Inputs, RequestId, Usage};
use super::router::Router;
use super::texts::{Texts, Turn};
use crate::error::{Error, Kind, Result};
use crate::plugins::embedder::{Embedder, Matryoshka};
use crate::plugins::model::{ErrorCode, Model, Token, TokenizeOptions};

/// A model's embedder and what waits for it.
pub(super) struct Embeddings {
    model: Arc<Model>,
    embedder: Embedder,
    texts: Texts,
    accepted: Vec<Accepted>,
    step_tokens: usize,
    router: Arc<Router>,
}

/// A request whose texts fit.
struct Accepted {
    id: RequestId,
    prompt_tokens: u32,
    dimensions: usize,
}

impl Embeddings {
    /// Makes the embedder; `None` for a model that offers none.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub(super) fn of(model: &Arc<Model>, settings: Settings, router: &Arc<Router>) -> Result<Option<Self>> {
        let Some(embedder) = model.new_embedder()? else { return Ok(None) };
        let most = embedder.limits().batch_tokens;
        Ok(Some(Embeddings {
            model: Arc::clone(model),
            embedder,
            texts: Texts::default(),
            accepted: Vec::new(),
            step_tokens: settings.step_tokens.min(most) as usize,
            router: Arc::clone(router),
        }))
    }

    /// The longest that one text may be, in tokens.
    pub(super) fn longest(&self) -> u32 {
        self.embedder.limits().sequence_tokens
    }

    /// Requests that are not answered yet.
    pub(super) fn requests(&self) -> usize {
        self.texts.requests()
    }

    /// Takes a request, or refuses it.
    pub(super) fn submit(&mut self, id: RequestId, inputs: &Inputs) {
        // The plugin reads its texts now.
        self.router.computing([id]);
        match self.read(inputs) {
            Ok((dimensions, sequences)) => {
                let prompt_tokens = sequences.iter().map(Vec::len).sum::<usize>() as u32;
                self.router.deliver(id, Event::Accepted { prompt_tokens });
                self.router.count_prompt(Usage { prompt_tokens, ..Usage::default() });
                self.accepted.push(Accepted { id, prompt_tokens, dimensions });
                self.texts.add(id, sequences);
            }
            Err(error) => self.router.deliver(id, Event::Failed(error)),
        }
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.texts.remove(id);
        self.accepted.retain(|accepted| accepted.id != id);
    }

    /// Embeds one batch, if anything waits.
    ///
    /// # Errors
    /// When the embedder is lost for good.
    pub(super) fn step(&mut self) -> Result<()> {
        let most = self.embedder.limits().batch_sequences as usize;
        let turns = self.texts.next(self.step_tokens, most);
        if turns.is_empty() {
            return Ok(());
        }
        self.router.computing(turns.iter().map(|turn| turn.id));
        let tokens: Vec<Token> = turns.iter().flat_map(|turn| turn.tokens.iter().copied()).collect();
        let lengths: Vec<u32> = turns.iter().map(|turn| turn.tokens.len() as u32).collect();
        match self.embedder.embed(&tokens, &lengths) {
            Ok(vectors) => {
                let width = self.embedder.limits().dimensions as usize;
                turns
                    .iter()
                    .zip(vectors.chunks_exact(width))
                    .for_each(|(turn, vector)| self.tell(turn, vector));
                Ok(())
            }
            Err(error) => self.fail(&turns, error.code, &error.message),
        }
    }

    fn tell(&mut self, turn: &Turn, vector: &[f32]) {
        let id = turn.id;
        let Some(at) = self.accepted.iter().position(|accepted| accepted.id == id) else { return };
        let mut vector = vector[..self.accepted[at].dimensions].to_vec();
        if vector.len() < self.embedder.limits().dimensions as usize && self.embedder.is_normalized() {
            normalize(&mut vector);
        }
        self.router.deliver(id, Event::Vector { index: turn.index, vector });
        if turn.last {
            let Accepted { prompt_tokens, .. } = self.accepted.swap_remove(at);
            let usage = Usage { prompt_tokens, ..Usage::default() };
            self.router.deliver(id, Event::Finished { reason: FinishReason::Stop, usage });
        }
    }

    /// The requests of a failed batch end with the error, the others go on.
    fn fail(&mut self, turns: &[Turn], code: ErrorCode, message: &str) -> Result<()> {
        tracing::error!(code = code.name(), "embedding failed: {message}");
        let error = Error::new(Kind::EngineCrashed, format!("the plugin failed while embedding: {message}"));
        for turn in turns {
            self.forget(turn.id);
            self.router.deliver(turn.id, Event::Failed(error.clone()));
        }
        if code == ErrorCode::PANICKED || code == ErrorCode::POISONED {
            let lost = |error: &dyn std::fmt::Display| {
                Error::new(
                    Kind::EngineCrashed,
                    format!("the plugin crashed and gives no new embedder: {error}"),
                )
            };
            let another = self.model.new_embedder().map_err(|error| lost(&error))?;
            self.embedder = another.ok_or_else(|| lost(&"it offers none any more"))?;
        }
        Ok(())
    }

    /// The numbers that each vector shall have, and the tokens of each text.
    fn read(&self, inputs: &Inputs) -> Result<(usize, Vec<Vec<Token>>)> {
        let dimensions = self.dimensions(inputs.dimensions)?;
        let longest = self.longest() as usize;
        let mut sequences = Vec::with_capacity(inputs.texts.len());
        for (index, input) in inputs.texts.iter().enumerate() {
            let about = |error: Error| Error { param: Some(format!("input[{index}]")), ..error };
            let tokens = self.tokenize(input).map_err(about)?;
            check_length(tokens.len(), longest).map_err(about)?;
            sequences.push(tokens);
        }
        if sequences.is_empty() {
            return Err(Error::invalid("input", "there is nothing to embed"));
        }
        Ok((dimensions, sequences))
    }

    fn dimensions(&self, wanted: Option<u32>) -> Result<usize> {
        let own = self.embedder.limits().dimensions;
        let Some(wanted) = wanted.filter(|&wanted| wanted != own) else { return Ok(own as usize) };
        let allowed = match self.embedder.matryoshka() {
            Matryoshka::Any if (1..own).contains(&wanted) => return Ok(wanted as usize),
            Matryoshka::Lengths(lengths) if wanted < own && lengths.contains(&wanted) => {
                return Ok(wanted as usize);
            }
            Matryoshka::Whole => format!("{own} alone: it was not trained for shorter ones"),
            Matryoshka::Any => format!("1 to {own}"),
            Matryoshka::Lengths(lengths) => {
                let lengths: Vec<String> =
                    lengths.iter().filter(|&&length| length < own).map(u32::to_string).collect();
                format!("{}, {own}", lengths.join(", "))
            }
        };
        let message = format!("`dimensions` is {wanted}; vectors of this model can have {allowed}");
        Err(Error::unsupported("dimensions", message))
    }

    fn tokenize(&self, input: &Input) -> Result<Vec<Token>> {
        match input {
            // Control tokens in a text to embed are text: it is a stranger's more often than the caller's.
            Input::Text(text) => {
                self.model.tokenize(text, TokenizeOptions { add_special: true, parse_special: false })
            }
            Input::Tokens(tokens) => {
                let size = self.model.vocab_size();
                match tokens.iter().find(|&&token| token >= size) {
                    None => Ok(tokens.iter().copied().map(Token).collect()),
                    Some(token) => Err(Error::new(
                        Kind::InvalidRequest,
                        format!("token {token} is beyond this model's vocabulary of {size} tokens"),
                    )),
                }
            }
        }
    }
}

fn check_length(tokens: usize, longest: usize) -> Result<()> {
    if tokens == 0 {
        return Err(Error::new(Kind::InvalidRequest, "it has no tokens: there is nothing to embed"));
    }
    if tokens <= longest {
        return Ok(());
    }
    Err(Error::new(
        Kind::ContextLengthExceeded,
        format!(
            "this model embeds at most {longest} tokens at once, and this input has {tokens}: shorten it, or split it"
        ),
    ))
}

/// Gives a vector the length 1; one of nothing but zeros stays.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// The loop of a model that generates nothing.
pub(super) struct EmbeddingRunner {
    embeddings: Embeddings,
    commands: Receiver<Command>,
    finishing: bool,
}

impl EmbeddingRunner {
    pub(super) fn new(embeddings: Embeddings, commands: Receiver<Command>) -> Self {
        EmbeddingRunner { embeddings, commands, finishing: false }
    }

    /// The longest that one text may be, in tokens.
    pub(super) fn longest(&self) -> u32 {
        self.embeddings.longest()
    }

    /// Runs until told to end, or until the embedder is lost for good.
    pub(super) fn run(mut self) {
        let router = Arc::clone(&self.embeddings.router);
        while self.receive() {
            router.count(self.embeddings.requests(), 0, 0);
            if let Err(error) = self.embeddings.step() {
                tracing::error!("the engine ends: {error}");
                router.fail_all(&error);
                return;
            }
            router.count(self.embeddings.requests(), 0, 0);
        }
    }

    /// Takes what was said since the last batch; waits for something to be said when there is nothing to do. `false` ends
    /// the loop.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.embeddings.requests() == 0;
            if idle && self.finishing {
                return false;
            }
            let command = if idle {
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(Command::Embed(id, inputs)) => self.embeddings.submit(id, &inputs),
                Ok(Command::Submit(id, _)) => self.embeddings.router.deliver(id, Event::Failed(no_text())),
                Ok(Command::Cancel(id)) => self.embeddings.forget(id),
                Ok(Command::Wake) => self.embeddings.router.alive(),
                Ok(Command::Finish) => self.finishing = true,
                Err(TryRecvError::Disconnected) if !idle => return true,
                Ok(Command::Abort) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }
}

/// What a request for text is told where there are only vectors.
fn no_text() -> Error {
    Error::unsupported(
        "model",
        "this model cannot generate text: it has the capability `embeddings`, and lacks `generate`",
    )
}

/// What a request for vectors is told where there are none.
pub(super) fn no_vectors() -> Error {
    Error::unsupported(
        "model",
        "this model makes no embeddings: it has the capability `generate`, and lacks `embeddings`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one_again() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 2];
        normalize(&mut nothing);
        assert_eq!(nothing, [0.0; 2]);
    }

    #[test]
    fn what_is_too_long_is_told_with_the_figures() {
        check_length(8, 8).unwrap();
        let error = check_length(9, 8).unwrap_err();
        assert_eq!(error.kind, Kind::ContextLengthExceeded);
        assert!(error.message.contains("at most 8 tokens") && error.message.contains("has 9"), "{error}");
    }
}
