//! Brain floats times brain floats in the tiles of AMX: sixteen rows of activations by sixteen weight rows by thirty-two
//! columns an instruction (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18).
//!
//! A strip of packed weights is what a tile of weights shall be, as it lies there, and rows of activations are a tile by
//! themselves. Where these are few the roles change: weights are tiles by themselves, as they stream by, and the activations
//! are packed, once for all weights; the products come out with rows and columns exchanged. The instructions are written
//! out: the standard library's are not stable yet.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::arch::asm;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::bf16::{self, Pairs};
use super::multiply::{MANY, Multiply, Sink};
use super::simd::avx512::Avx512;
use super::simd::{LANES, Simd};
use super::strips::{self, DEPTH, Part};

/// Rows of a tile.
const ROWS: usize = 16;
/// Brain floats of a tile's row.
const COLUMNS: usize = 32;
/// Bytes of a tile's row.
const ROW_BYTES: usize = 64;
/// From one strip's vector of weight rows to the next.
const VECTOR_BYTES: usize = DEPTH * LANES * size_of::<u32>();

/// # Safety
/// The machine has the instructions and the process may use them (see [`granted`]); `job` is as its type says, `a_narrow`
/// included.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn run(job: &Multiply) {
    // SAFETY: passed on to our caller; tiles are given back, so that a switch of threads need not keep them.
    unsafe {
        let streams = job.rows < MANY;
        if streams && (job.rows < WORTH_TILES || !job.width.is_multiple_of(COLUMNS)) {
            return bf16::run(job);
        }
        let shapes = Shapes::EIGHT_WHOLE;
        asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly, preserves_flags));
        if streams {
            stream(job);
        } else {
            strips::run::<Pairs<true>>(job);
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}

/// Fewer rows come at the memory's speed without tiles.
const WORTH_TILES: usize = 4;

/// Tiles of activations that are packed at a time; the products of more columns are added up in the output.
const PACKED: usize = 64;

/// Activations as the right side of products: `[tiles][COLUMNS / 2][ROWS]` pairs.
#[repr(align(64))]
struct Packed([MaybeUninit<u32>; PACKED * ROWS * ROWS]);

/// Up to sixteen rows of activations with every weight row.
///
/// # Safety
/// As for [`run`]; tiles are configured, rows of activations are no more than those of a tile, the width is whole tiles.
#[inline(always)]
unsafe fn stream(job: &Multiply) {
    let Multiply { width, count, .. } = *job;
    let mut packed = Packed([MaybeUninit::uninit(); PACKED * ROWS * ROWS]);
    let packed = packed.0.as_mut_ptr().cast::<u32>();
    let whole = count - count % ROWS;
    // SAFETY: weight rows and columns are within the job's shapes; what is packed fits.
    unsafe {
        for from in (0..width).step_by(PACKED * COLUMNS) {
            let steps = PACKED.min((width - from) / COLUMNS);
            pack(job, from, steps, packed);
            // A later part adds to what the first has written, bias and all.
            let Sink { bias, out, stride, add, scale } = job.sink;
            let sink = Sink { bias: bias.filter(|_| from == 0), out, stride, add: add || from > 0, scale };
            let mut ahead = Ahead::new(job, from, steps);
            let mut n = 0;
            while n < whole {
                let tiles = if n + 2 * ROWS <= whole { 2 } else { 1 };
                let mut sums = Sums([MaybeUninit::uninit(); 4 * ROWS * LANES]);
                let sums = sums.0.as_mut_ptr().cast::<f32>();
                let weights = job.weights.cast::<u16>().add(n * width + from);
                match tiles {
                    2 => by_weights::<2>((weights, width), (packed, steps), &mut ahead, sums),
                    _ => by_weights::<1>((weights, width), (packed, steps), &mut ahead, sums),
                }
                for tile in 0..tiles {
                    let sums = sums.add(tile * ROWS * LANES);
                    let by_weight = std::array::from_fn(|row| Avx512::load(sums.add(row * LANES)));
                    Avx512::store_transposed(sums, &by_weight);
                    for row in 0..job.rows {
                        let sum = Avx512::load(sums.add(row * LANES));
                        sink.write_lanes::<Avx512>(row, n + tile * ROWS, LANES, sum);
                    }
                }
                n += tiles * ROWS;
            }
        }
        if whole < count {
            let Sink { bias, out, stride, add, scale } = job.sink;
            let bias = bias.map(|bias| bias.add(whole));
            let sink = Sink { bias, out: out.add(whole), stride, add, scale };
            let weights = job.weights.add(whole * width * size_of::<u16>());
            bf16::run(&Multiply { weights, count: count - whole, sink, ..*job });
        }
    }
}

/// The lines of weight rows that come next, in their order: a tile's own lines are each of another row.
struct Ahead {
    at: *const u8,
    /// Lines of a row, and how many of them are left.
    lines: usize,
    left: usize,
    /// Bytes from a row's last line to the next row's first.
    skip: usize,
}

impl Ahead {
    /// Behind the first two tiles.
    fn new(job: &Multiply, from: usize, lines: usize) -> Self {
        let row = job.width * size_of::<u16>();
        let at = job.weights.wrapping_add(2 * ROWS * row + from * size_of::<u16>());
        Ahead { at, lines, left: lines, skip: row - lines * ROW_BYTES }
    }

    /// Asks for the next line.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn ask(&mut self) {
        // SAFETY: what is only prefetched need not exist.
        unsafe { Avx512::prefetch(self.at) };
        self.at = self.at.wrapping_add(ROW_BYTES);
        self.left -= 1;
        if self.left == 0 {
            self.at = self.at.wrapping_add(self.skip);
            self.left = self.lines;
        }
    }
}

/// One or two tiles of weights with the packed activations.
#[inline(always)]
unsafe fn by_weights<const TILES: usize>(
    (weights, width): (*const u16, usize),
    (packed, steps): (*const u32, usize),
    ahead: &mut Ahead,
    sums: *mut f32,
) {
    let stride = width * size_of::<u16>();
    // SAFETY: the caller's pointers are valid for `steps` tiles and for the tiles of sums; only tiles 0, 1, 4, 5 and 6
    // change.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem, preserves_flags));
        for step in 0..steps {
            // While these are multiplied, and not before: what is on its way holds up the tiles' own lines.
            for _ in 0..TILES * ROWS {
                ahead.ask();
            }
            let weights = weights.add(step * COLUMNS);
            asm!(
                "tileloadd tmm6, [{packed} + {line}]",
                "tileloadd tmm4, [{weights} + {stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                packed = in(reg) packed.add(step * ROWS * LANES),
                weights = in(reg) weights,
                stride = in(reg) stride,
                line = in(reg) ROW_BYTES,
                options(nostack, preserves_flags)
            );
            if TILES == 2 {
                asm!(
                    "tileloadd tmm5, [{weights} + {stride}]",
                    "tdpbf16ps tmm1, tmm5, tmm6",
                    weights = in(reg) weights.add(ROWS * width),
                    stride = in(reg) stride,
                    options(nostack, preserves_flags)
                );
            }
        }
        asm!(
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 1024], tmm1",
            sums = in(reg) sums,
            line = in(reg) ROW_BYTES,
            options(nostack, preserves_flags)
        );
    }
}

/// Packs columns of the activations; rows that are missing are nothing.
#[inline(always)]
unsafe fn pack(job: &Multiply, from: usize, steps: usize, packed: *mut u32) {
    // SAFETY: as for `stream`.
    unsafe {
        for step in 0..steps {
            let a = job.a_narrow.add(from + step * COLUMNS);
            let rows = std::array::from_fn(|row| {
                if row < job.rows { Avx512::load(a.add(row * job.width).cast()) } else { Avx512::splat(0.0) }
            });
            Avx512::store_transposed(packed.add(step * ROWS * ROWS).cast(), &rows);
        }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    const EIGHT_WHOLE: Shapes = {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = ROW_BYTES as u16;
            rows[tile] = ROWS as u8;
            tile += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };
}

/// Sums of up to two by two tiles, each row by row.
#[repr(align(64))]
struct Sums([MaybeUninit<f32>; 4 * ROWS * LANES]);

/// The first rows of activations, as many as fill tiles, with a strip of `N` vectors; how many these were.
///
/// # Safety
/// As for [`run`]; tiles are configured, the strip is packed.
#[inline(always)]
pub(super) unsafe fn multiply<const N: usize, W>(part: &Part<'_, W>, strip: *const u32, n: usize) -> usize {
    if !part.depth.is_multiple_of(COLUMNS) {
        return 0;
    }
    let rows = part.job.rows;
    let mut row = 0;
    // SAFETY: rows and columns are within the job's shapes, and the strip has its words.
    unsafe {
        while row + ROWS <= rows {
            let tiles = if row + 2 * ROWS <= rows { 2 } else { 1 };
            block::<N, W>(part, strip, (row, tiles), n);
            row += tiles * ROWS;
        }
    }
    row
}

/// One or two tiles of activations with a strip.
#[inline(always)]
unsafe fn block<const N: usize, W>(
    part: &Part<'_, W>,
    strip: *const u32,
    (row, tiles): (usize, usize),
    n: usize,
) {
    let Multiply { width, count, a_narrow, .. } = *part.job;
    let mut sums = Sums([MaybeUninit::uninit(); 4 * ROWS * LANES]);
    let sums = sums.0.as_mut_ptr().cast::<f32>();
    let steps = part.depth / COLUMNS;
    // SAFETY: as for `multiply`; the sums have room for every tile.
    unsafe {
        let a = a_narrow.add(row * width + part.from);
        if tiles == 2 && N == 2 {
            four((a, width), strip, steps, sums);
        } else {
            for (tile, c) in (0..tiles).flat_map(|tile| (0..N).map(move |c| (tile, c))) {
                let to = sums.add((tile * N + c) * ROWS * LANES);
                one((a.add(tile * ROWS * width), width), strip.byte_add(c * VECTOR_BYTES), steps, to);
            }
        }
        for (tile, c) in (0..tiles).flat_map(|tile| (0..N).map(move |c| (tile, c))) {
            let n = n + c * LANES;
            let from = sums.add((tile * N + c) * ROWS * LANES);
            for r in 0..ROWS {
                let sum = Avx512::load(from.add(r * LANES));
                part.sink.write_lanes::<Avx512>(row + tile * ROWS + r, n, LANES.min(count - n), sum);
            }
        }
    }
}

/// One tile of rows with one of what is packed.
#[inline(always)]
unsafe fn one((a, width): (*const u16, usize), packed: *const u32, steps: usize, sums: *mut f32) {
    // SAFETY: the caller's pointers are valid for `steps` tiles and for one tile of sums; only tiles 0, 4 and 6 change.
    unsafe {
        asm!(
            "tilezero tmm0",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{packed} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {a}, 64",
            "add {packed}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            a = inout(reg) a => _,
            packed = inout(reg) packed => _,
            steps = inout(reg) steps => _,
            stride = in(reg) width * size_of::<u16>(),
            line = in(reg) ROW_BYTES,
            sums = in(reg) sums,
            options(nostack)
        );
    }
}

/// Two tiles of activations with two of weights: each that is loaded is used twice.
#[inline(always)]
unsafe fn four((a, width): (*const u16, usize), weights: *const u32, steps: usize, sums: *mut f32) {
    // SAFETY: as for `one`, for four tiles of sums; every tile changes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{weights} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{weights} + {line} + {next}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {lower}, 64",
            "add {weights}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 1024], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2",
            "tilestored [{sums} + {line} + 3072], tmm3",
            a = inout(reg) a => _,
            lower = inout(reg) a.add(ROWS * width) => _,
            weights = inout(reg) weights => _,
            steps = inout(reg) steps => _,
            stride = in(reg) width * size_of::<u16>(),
            line = in(reg) ROW_BYTES,
            sums = in(reg) sums,
            next = const VECTOR_BYTES,
            options(nostack)
        );
    }
}

/// Whether the processor has tiles of brain floats and the system lets this process use them, which has to be asked for.
pub(super) fn granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| has_tiles() && ask())
}

/// AMX-BF16 and AMX-TILE, as leaf 7 tells them.
fn has_tiles() -> bool {
    const BOTH: u32 = 1 << 22 | 1 << 24;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & BOTH == BOTH
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` of Linux 5.16 and newer, for all threads.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let answer: i64;
    // SAFETY: a system call of two numbers, which touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}
