//! Keys and values of many sequences, in blocks with reference counts: a shared prefix is shared blocks.
//!
//! [`table`] is pure bookkeeping; this file is the memory behind it.

mod table;

use std::marker::PhantomData;

use impetus_plugin_api::{ErrorCode, PluginError};
use memmap2::MmapMut;

pub(crate) use self::table::{BLOCK, Full, Table};
use crate::kernels::{CacheElement, Element, LANES};
use crate::pool::Shared;

/// The shape of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    /// A multiple of [`LANES`].
    pub(crate) head_width: usize,
    pub(crate) blocks: usize,
}

impl Shape {
    /// Numbers in one head's keys (or values) of one block.
    fn part(&self) -> usize {
        LANES * self.head_width
    }

    /// Numbers of one layer.
    fn layer(&self) -> usize {
        self.blocks * self.kv_heads * 2 * self.part()
    }

    /// Where one head's keys of a block begin in its layer; its values follow.
    fn place(&self, block: u32, head: usize) -> usize {
        (block as usize * self.kv_heads + head) * 2 * self.part()
    }

    /// Bytes of all numbers of this size; none where no machine could count them.
    pub(crate) fn bytes(&self, size: usize) -> Option<usize> {
        [self.kv_heads, 2, LANES, self.head_width, self.layers, size]
            .into_iter()
            .try_fold(self.blocks, |product, factor| product.checked_mul(factor))
    }
}

/// The memory: `[layer][block][head]{keys [head_width][LANES], values [LANES][head_width]}`.
pub(crate) struct Memory<E: Element> {
    shape: Shape,
    /// Zeroed pages, which the system gives when they are first written.
    pages: MmapMut,
    _numbers: PhantomData<E>,
}

impl<E: CacheElement> Memory<E> {
    /// # Errors
    /// `OUT_OF_MEMORY` with the figure.
    pub(crate) fn new(shape: Shape) -> Result<Self, PluginError> {
        let full = |figure: &dyn std::fmt::Display| {
            let message = format!(
                "no memory for a KV cache of {figure} bytes; lower context_tokens under [plugin.safetensors.options]"
            );
            PluginError::new(ErrorCode::OUT_OF_MEMORY, message)
        };
        let bytes = shape.bytes(size_of::<E::Bits>()).ok_or_else(|| full(&"uncountable"))?;
        let pages = MmapMut::map_anon(bytes).map_err(|_| full(&bytes))?;
        Ok(Memory { shape, pages, _numbers: PhantomData })
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len()
    }

    /// Copies a block of every layer.
    pub(crate) fn copy_block(&mut self, from: u32, to: u32) {
        let length = self.shape.kv_heads * 2 * self.shape.part();
        let (from, to) = (self.shape.place(from, 0), self.shape.place(to, 0));
        for layer in 0..self.shape.layers {
            self.numbers(layer).copy_within(from..from + length, to);
        }
    }

    /// A layer, to be written from several threads.
    pub(crate) fn layer(&mut self, layer: usize) -> LayerMemory<'_, E> {
        let shape = self.shape;
        LayerMemory { shape, numbers: Shared::new(self.numbers(layer)) }
    }

    #[expect(unsafe_code, reason = "pages are read as numbers")]
    fn numbers(&mut self, layer: usize) -> &mut [E::Bits] {
        let length = self.shape.layer();
        let bytes = length * size_of::<E::Bits>();
        let part = &mut self.pages[layer * bytes..(layer + 1) * bytes];
        // SAFETY: floats and halves are plain numbers, for which any bits will do; a layer begins at a multiple of 64
        // bytes from the beginning of a page, so that it is aligned; it is as long as its bytes say.
        unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), length) }
    }
}

/// One layer's keys and values.
pub(crate) struct LayerMemory<'a, E: Element> {
    shape: Shape,
    numbers: Shared<'a, E::Bits>,
}

impl<E: CacheElement> LayerMemory<'_, E> {
    /// Stores a token's keys and values: both `[kv_heads][width]`, where `width` may be less than the cache's.
    ///
    /// # Safety
    /// No other thread has this slot of this block.
    #[expect(unsafe_code, reason = "threads write disjoint slots of one buffer")]
    pub(crate) unsafe fn store(&self, at: Slot, width: usize, keys: &[f32], values: &[f32]) {
        assert!(width <= self.shape.head_width && at.slot < LANES, "a slot exists: this is a bug");
        let heads = keys.chunks_exact(width).zip(values.chunks_exact(width)).take(self.shape.kv_heads);
        for (head, (keys, values)) in heads.enumerate() {
            let place = self.shape.place(at.block, head);
            for (i, &key) in keys.iter().enumerate() {
                // SAFETY: `at` checks the bounds; the slot is ours alone.
                unsafe { *self.numbers.at(place + i * LANES + at.slot) = E::narrow(key) };
            }
            let start = place + self.shape.part() + at.slot * self.shape.head_width;
            // SAFETY: as above.
            let to = unsafe { self.numbers.slice(start..start + width) };
            for (to, &value) in to.iter_mut().zip(values) {
                *to = E::narrow(value);
            }
        }
    }

    /// One head of block 0, and how far it is to the same head of the next block.
    pub(crate) fn head(&self, head: usize) -> (*const E::Bits, usize) {
        (self.numbers.at(self.shape.place(0, head)), self.shape.place(1, 0))
    }
}

/// Where a token's keys and values are: a block and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) block: u32,
    pub(crate) slot: usize,
}
