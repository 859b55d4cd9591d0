//! The few calls of llama.cpp that make up a context, behind safe signatures.
//!
//! llama-cpp-2's own context hides its pointer, and a thread pool that outlives a step can only be attached through it.
//! Without one, ggml starts and ends its threads at every decode.

use std::ptr::NonNull;
use std::sync::Arc;

use impetus_plugin_api::Batch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use crate::model::GgufModel;

/// How long ggml's threads spin for the next step before they sleep, in ggml's unit (0 to 100): about two
/// milliseconds, longer than sampling takes, and short enough that an idle model leaves the processor alone.
const POLL: u32 = 1;

/// A context of llama.cpp with the threads that compute for it.
pub(crate) struct NativeContext {
    context: NonNull<sys::llama_context>,
    memory: sys::llama_memory_t,
    /// One for each row of a batch: every row belongs to one sequence.
    ones: Vec<i32>,
    /// Where each row's sequence id stands, filled at every decode.
    sequences: Vec<*mut sys::llama_seq_id>,
    vocab_size: usize,
    embedding_length: u32,
    /// Freed after the context.
    _threads: Arc<ThreadPool>,
    /// Dropped after the context.
    _model: Arc<GgufModel>,
}

/// Threads that stay. Contexts that compute one after another share them.
pub(crate) struct ThreadPool(NonNull<sys::ggml_threadpool>);

#[expect(unsafe_code, reason = "a pointer that is only read")]
// SAFETY: the pool is used through contexts alone, one at a time, and ended by whoever drops it last.
unsafe impl Send for ThreadPool {}
#[expect(unsafe_code, reason = "a pointer that is only read")]
// SAFETY: as above; nothing here changes it.
unsafe impl Sync for ThreadPool {}

#[expect(unsafe_code, reason = "both are pointers that nobody else has")]
// SAFETY: llama.cpp ties a context and its pool to no thread; `&mut self` keeps calls one after another.
unsafe impl Send for NativeContext {}

/// llama.cpp's word on a decode that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeFailure {
    /// No cells for the batch; the state is what it was.
    NoCells,
    /// The batch itself is wrong; the log says why.
    Refused,
    /// Computed, and yet no logits.
    NoLogits,
    /// Its code for anything else.
    Code(i32),
}

#[expect(unsafe_code, reason = "llama.cpp is a C library")]
impl NativeContext {
    /// `None` where llama.cpp gives no context; its log says why.
    pub(crate) fn new(
        model: Arc<GgufModel>,
        params: sys::llama_context_params,
        threads: Arc<ThreadPool>,
    ) -> Option<NativeContext> {
        // SAFETY: the model's pointer is valid as long as `model`, which is stored beside the context.
        let context = NonNull::new(unsafe { sys::llama_init_from_model(model_ptr(&model.inner), params) })?;
        // SAFETY: both pointers were just made; the pool is freed after the context (`drop` below).
        unsafe { sys::llama_attach_threadpool(context.as_ptr(), threads.0.as_ptr(), threads.0.as_ptr()) };
        // SAFETY: as above. The memory belongs to the context.
        let memory = unsafe { sys::llama_get_memory(context.as_ptr()) };
        let vocab_size = usize::try_from(model.inner.vocab().n_tokens()).unwrap_or(0);
        // SAFETY: a plain function of the model.
        let embedding_length = unsafe { sys::llama_model_n_embd_out(model_ptr(&model.inner)) };
        Some(NativeContext {
            context,
            memory,
            ones: Vec::new(),
            sequences: Vec::new(),
            vocab_size,
            embedding_length: u32::try_from(embedding_length).unwrap_or(0),
            _threads: threads,
            _model: model,
        })
    }

    /// Cells of the cache.
    pub(crate) fn n_ctx(&self) -> u32 {
        // SAFETY: the context is valid while `self` is.
        unsafe { sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// Rows of one decode.
    pub(crate) fn n_batch(&self) -> u32 {
        // SAFETY: the context is valid while `self` is.
        unsafe { sys::llama_n_batch(self.context.as_ptr()) }
    }

    /// Computes a batch, whose columns are read where they lie.
    pub(crate) fn decode(&mut self, batch: Batch<'_>) -> Result<(), DecodeFailure> {
        let rows = batch.tokens.len();
        self.ones.resize(rows.max(self.ones.len()), 1);
        self.sequences.clear();
        // Tokens, positions and sequences are transparent `u32` below 2^31, llama.cpp's are `i32`; a `bool` is a byte.
        let ids = batch.sequences.as_slice();
        self.sequences.extend(ids.iter().map(|id| std::ptr::from_ref(id).cast_mut().cast()));
        let native = sys::llama_batch {
            n_tokens: i32::try_from(rows).map_err(|_| DecodeFailure::Refused)?,
            token: batch.tokens.as_ptr().cast_mut().cast(),
            embd: std::ptr::null_mut(),
            pos: batch.positions.as_ptr().cast_mut().cast(),
            n_seq_id: self.ones.as_mut_ptr(),
            seq_id: self.sequences.as_mut_ptr(),
            logits: batch.wants_logits.as_ptr().cast_mut().cast(),
        };
        // SAFETY: all five columns have `rows` elements and live for the call, and llama.cpp only reads them.
        match unsafe { sys::llama_decode(self.context.as_ptr(), native) } {
            0 => Ok(()),
            1 => Err(DecodeFailure::NoCells),
            -1 => Err(DecodeFailure::Refused),
            code => Err(DecodeFailure::Code(code)),
        }
    }

    /// The logits of a row of the last batch; `None` where llama.cpp has none for it.
    pub(crate) fn logits(&self, row: usize) -> Option<&[f32]> {
        let row = i32::try_from(row).ok()?;
        // SAFETY: waits for the computation and gives a row of `vocab_size` numbers or null; they are overwritten by the
        // next decode, for which `&mut self` is needed.
        let logits = NonNull::new(unsafe { sys::llama_get_logits_ith(self.context.as_ptr(), row) })?;
        // SAFETY: see above.
        Some(unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocab_size) })
    }

    /// Logits of a row.
    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Numbers of a vector.
    pub(crate) fn embedding_length(&self) -> u32 {
        self.embedding_length
    }

    /// The pooled vector of a sequence of the last batch; `None` where llama.cpp has none for it.
    pub(crate) fn embedding(&self, sequence: usize) -> Option<&[f32]> {
        let sequence = i32::try_from(sequence).ok()?;
        // SAFETY: waits for the computation and gives a vector of the model's output width or null; it is overwritten by
        // the next decode, for which `&mut self` is needed.
        let vector = NonNull::new(unsafe { sys::llama_get_embeddings_seq(self.context.as_ptr(), sequence) })?;
        // SAFETY: see above.
        Some(unsafe { std::slice::from_raw_parts(vector.as_ptr(), self.embedding_length as usize) })
    }

    /// Forgets positions `start..end` of a sequence (a negative `end` is none); `false` where its state cannot be cut there.
    pub(crate) fn seq_rm(&mut self, sequence: i32, start: i32, end: i32) -> bool {
        // SAFETY: the memory is valid while the context is.
        unsafe { sys::llama_memory_seq_rm(self.memory, sequence, start, end) }
    }

    /// Makes positions `start..end` part of another sequence as well.
    pub(crate) fn seq_cp(&mut self, from: i32, to: i32, start: i32, end: i32) {
        // SAFETY: as in `seq_rm`.
        unsafe { sys::llama_memory_seq_cp(self.memory, from, to, start, end) }
    }

    /// The last position of a sequence, -1 where it is empty.
    pub(crate) fn seq_pos_max(&self, sequence: i32) -> i32 {
        // SAFETY: as in `seq_rm`.
        unsafe { sys::llama_memory_seq_pos_max(self.memory, sequence) }
    }

    /// Bytes of a sequence's state.
    pub(crate) fn state_bytes(&mut self, sequence: i32) -> usize {
        // SAFETY: the context is valid while `self` is.
        unsafe { sys::llama_state_seq_get_size(self.context.as_ptr(), sequence) }
    }

    /// Writes out a sequence: what its cells hold, in llama.cpp's form.
    pub(crate) fn write_out(&mut self, sequence: i32, state: &mut Vec<u8>) {
        state.resize(self.state_bytes(sequence), 0);
        // SAFETY: the context is valid while `self` is, and no more bytes are written than `state` has.
        let written = unsafe {
            sys::llama_state_seq_get_data(self.context.as_ptr(), state.as_mut_ptr(), state.len(), sequence)
        };
        state.truncate(written);
    }

    /// Reads in what was written out, as this sequence. `false` where there are no cells for it; then it is empty.
    pub(crate) fn read_in(&mut self, sequence: i32, state: &[u8]) -> bool {
        // SAFETY: as above; llama.cpp checks what it reads, and does not read beyond the bytes.
        unsafe {
            sys::llama_state_seq_set_data(self.context.as_ptr(), state.as_ptr(), state.len(), sequence) > 0
        }
    }

    /// Forgets every sequence.
    pub(crate) fn clear(&mut self) {
        // An encoder's context has none.
        if self.memory.is_null() {
            return;
        }
        // SAFETY: as in `seq_rm`. What the cells hold need not be overwritten: nobody reads them before.
        unsafe { sys::llama_memory_clear(self.memory, false) }
    }
}

impl Drop for NativeContext {
    #[expect(unsafe_code, reason = "llama.cpp's context is freed by hand")]
    fn drop(&mut self) {
        // SAFETY: the pointer is ours and not used again; pool and model are fields, dropped after this.
        unsafe { sys::llama_free(self.context.as_ptr()) }
    }
}

#[expect(unsafe_code, reason = "ggml is a C library")]
impl ThreadPool {
    /// For a backend of the processor, which must be freed before the pool.
    pub(crate) fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.0.as_ptr()
    }

    /// `threads` is the most that any step uses.
    pub(crate) fn new(threads: u32) -> Option<ThreadPool> {
        let threads = i32::try_from(threads).ok()?;
        // SAFETY: a plain function of its argument.
        let mut params = unsafe { sys::ggml_threadpool_params_default(threads) };
        params.poll = POLL;
        // SAFETY: reads the parameters and keeps no pointer to them.
        NonNull::new(unsafe { sys::ggml_threadpool_new(&raw mut params) }).map(ThreadPool)
    }
}

impl Drop for ThreadPool {
    #[expect(unsafe_code, reason = "ggml's pool is freed by hand")]
    fn drop(&mut self) {
        // SAFETY: the pointer is ours; the context that used it is gone.
        unsafe { sys::ggml_threadpool_free(self.0.as_ptr()) }
    }
}

/// Whether a model forgets what is beyond a sliding window.
#[expect(unsafe_code, reason = "llama-cpp-2 has no accessor for it")]
pub(crate) fn has_window(model: &GgufModel) -> bool {
    // SAFETY: a plain function of a model that is there.
    unsafe { sys::llama_model_n_swa(model_ptr(&model.inner)) > 0 }
}

/// llama.cpp's own pointer to a model.
#[expect(unsafe_code, reason = "llama-cpp-2 has no accessor for it")]
fn model_ptr(model: &LlamaModel) -> *mut sys::llama_model {
    const { assert!(size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>()) };
    // SAFETY: in the pinned version, `LlamaModel` is `repr(transparent)` over one non-null pointer to a `llama_model`.
    unsafe { *std::ptr::from_ref(model).cast::<*mut sys::llama_model>() }
}
