//! The context: sequences of bytes, and a next byte that follows from all of them.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use impetus_plugin_api::sdk::Context;
use impetus_plugin_api::{Batch, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId};

use crate::{END, Script, VOCABULARY};

/// What the template of a file with `answer` must end with.
const PROMPT_END: &[u8] = b"<answer>";

pub(crate) struct Reader {
    script: Arc<Script>,
    limits: ContextLimits,
    sequences: Vec<Vec<u8>>,
    logits: Vec<Vec<f32>>,
    decodes: u32,
}

impl Reader {
    pub(crate) fn new(script: Arc<Script>, params_json: &str) -> Self {
        let wished = params_json.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok());
        let max_sequences = script.behaviour.number("slots", wished.unwrap_or(4));
        let limits = ContextLimits {
            total_tokens: script.behaviour.number("cells", 4096),
            sequence_tokens: script.behaviour.number("sequence_tokens", 512),
            max_sequences,
            batch_tokens: 64,
        };
        Reader {
            limits,
            sequences: vec![Vec::new(); max_sequences as usize],
            logits: Vec::new(),
            decodes: 0,
            script,
        }
    }

    /// A letter that every byte so far has a part in; the end once the sequence is `end_at` long.
    fn next(&self, said: &[u8]) -> u32 {
        if said.len() >= self.script.behaviour.number("end_at", u32::MAX) as usize {
            return END;
        }
        if let Some(answer) = self.script.behaviour.answer() {
            // Prompts end with this; an answer has none of it.
            let end = said.windows(PROMPT_END.len()).rposition(|bytes| bytes == PROMPT_END);
            let told = said.len() - end.map_or(0, |at| at + PROMPT_END.len());
            return answer.get(told).copied().unwrap_or(END);
        }
        if let Some(text) = self.script.behaviour.text("say") {
            return text.as_bytes()[said.len() % text.len()].into();
        }
        let hash = said.iter().fold(17_u32, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        u32::from(b'a') + (hash >> 7) % 26
    }

    fn misbehave(&mut self) -> Result<(), PluginError> {
        let behaviour = &self.script.behaviour;
        self.decodes += 1;
        std::thread::sleep(Duration::from_millis(behaviour.number("stall_ms", 0).into()));
        let told = |key: &str| behaviour.number(key, 0) == self.decodes;
        assert!(!told("panic_at"), "told to panic in decode");
        if told("abort_at") {
            let _ = writeln!(std::io::stderr(), "told to abort in decode");
            std::process::abort();
        }
        if told("fork_then_abort_at") {
            crate::crash::fork_then_abort();
        }
        if told("exit_at") {
            std::process::exit(3);
        }
        if told("segfault_at") {
            crate::crash::segfault();
        }
        if told("hang_at") {
            crate::crash::hang();
        }
        if told("nonsense_at") {
            crate::crash::speak_nonsense();
        }
        if told("allocate_at") {
            crate::crash::allocate_without_end();
        }
        for line in 0..behaviour.number("flood", 0) {
            let _ = writeln!(std::io::stderr(), "line {line} of a flood");
        }
        if told("fail_at") {
            return Err(PluginError::internal("told to fail in decode"));
        }
        let held: usize = self.sequences.iter().map(Vec::len).sum();
        if told("full_at") || held >= behaviour.number("secretly_cells", u32::MAX) as usize {
            return Err(PluginError::new(ErrorCode::CACHE_FULL, "no cells"));
        }
        Ok(())
    }
}

impl Context for Reader {
    fn limits(&self) -> ContextLimits {
        self.limits
    }

    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        self.misbehave()?;
        self.logits.clear();
        for row in 0..batch.tokens.len() {
            let sequence = batch.sequences[row].0 as usize;
            let position = batch.positions[row].0 as usize;
            if self.sequences[sequence].len() != position {
                let held = self.sequences[sequence].len();
                return Err(PluginError::invalid_argument(format!(
                    "position {position} where {held} are held"
                )));
            }
            self.sequences[sequence].push(batch.tokens[row].0 as u8);
            let mut logits =
                vec![-30.0; VOCABULARY as usize - usize::from(self.script.behaviour.has("short_logits"))];
            if let Some(logit) = logits.get_mut(self.next(&self.sequences[sequence]) as usize) {
                *logit = 30.0;
            }
            self.logits.push(logits);
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        Ok(&self.logits[row])
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        let recurrent = self.script.behaviour.has("recurrent");
        let tokens = &mut self.sequences[sequence.0 as usize];
        let end = tokens.len().min(range.end.0 as usize);
        if recurrent && range.start.0 > 0 && (range.start.0 as usize) < end {
            return Err(PluginError::unsupported("a recurrent state cannot be cut"));
        }
        tokens.drain(end.min(range.start.0 as usize)..end);
        Ok(())
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        if self.script.behaviour.has("recurrent") {
            return Err(PluginError::unsupported("a recurrent state cannot be copied"));
        }
        let source = &self.sequences[from.0 as usize];
        self.sequences[to.0 as usize] = source[..source.len().min(range.end.0 as usize)].to_vec();
        Ok(())
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        self.sequences[sequence.0 as usize].len().checked_sub(1).map(|last| Position(last as u32))
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.sequences.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}
