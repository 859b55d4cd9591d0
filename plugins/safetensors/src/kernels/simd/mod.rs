//! Sixteen floats at a time, on whatever the machine has: the kernels are written once over this trait.
//!
//! Each implementation is inlined into functions that were compiled for its instruction set; nothing here is called
//! from elsewhere.

#![expect(unsafe_code, reason = "instructions of one machine, on raw memory")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod integers;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_integers;
pub(crate) mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use self::integers::Avx512Vnni;
pub(super) use self::integers::Integers;
#[cfg(target_arch = "aarch64")]
pub(super) use self::neon_integers::NeonDot;

/// Floats in a vector.
pub(crate) const LANES: usize = 16;

/// A vector of [`LANES`] floats and what the kernels do with it.
///
/// # Safety
/// Of every method: the machine has the implementation's instructions; pointers are valid for [`LANES`] elements.
pub(crate) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Vectors of weights that the widest tile of a strip has: 1 or 2.
    const STRIP: usize;
    /// Rows of activations of such a tile, as many as the registers hold sums for: 3, 6 or 8.
    const ROWS: usize;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// Widens brain floats.
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    /// Widens IEEE half floats.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn largest(v: Self::V) -> f32;
    /// 2 to the power of `n`, where `n` holds whole numbers between -126 and 127.
    unsafe fn exp2_whole(n: Self::V) -> Self::V;
    /// The nearest whole numbers.
    unsafe fn round(v: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Stores the nearest whole numbers; each is between -128 and 127.
    unsafe fn store_bytes(to: *mut i8, v: Self::V);

    /// Asks for what will be read soon; it need not exist.
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}

    /// Stores sixteen vectors as columns: `to[column][row]`.
    #[inline(always)]
    unsafe fn store_transposed(to: *mut f32, rows: &[Self::V; LANES]) {
        // SAFETY: as the trait says, of [`LANES`] times as many.
        unsafe {
            let mut lanes = [[0.0f32; LANES]; LANES];
            for (lanes, row) in lanes.iter_mut().zip(rows) {
                Self::store(lanes.as_mut_ptr(), *row);
            }
            for column in 0..LANES {
                for (row, lanes) in lanes.iter().enumerate() {
                    *to.add(column * LANES + row) = lanes[column];
                }
            }
        }
    }

    /// e to the power of each, within 2 units in the last place; below -87 it is nearly nothing, never less.
    #[inline(always)]
    unsafe fn exp(v: Self::V) -> Self::V {
        // SAFETY: as the trait says. The polynomial and the two halves of ln 2 are those of Cephes' `expf`.
        unsafe {
            let v = Self::min(Self::max(v, Self::splat(-87.0)), Self::splat(88.0));
            let n = Self::round(Self::mul(v, Self::splat(std::f32::consts::LOG2_E)));
            let r = Self::fma(n, Self::splat(-0.693_359_4), v);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = Self::fma(p, r, Self::splat(c));
            }
            let e = Self::add(Self::fma(p, Self::mul(r, r), r), Self::splat(1.0));
            Self::mul(e, Self::exp2_whole(n))
        }
    }
}

/// How a stored number becomes a float.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Its bits.
    type Bits: Copy + Default + Send + Sync;

    /// Reads [`LANES`] of them.
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn load<S: Simd>(from: *const Self::Bits) -> S::V;
    /// One of them.
    fn widen(bits: Self::Bits) -> f32;
    /// The nearest stored number.
    fn narrow(value: f32) -> Self::Bits;
}

#[derive(Clone, Copy)]
pub(crate) struct F32;
#[derive(Clone, Copy)]
pub(crate) struct F16;
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Element for F32 {
    type Bits = f32;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::V {
        // SAFETY: as the trait says.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    fn widen(bits: f32) -> f32 {
        bits
    }
    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        value
    }
}

impl Element for F16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: as the trait says.
        unsafe { S::load_f16(from) }
    }
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        half::f16::from_bits(bits).to_f32()
    }
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        half::f16::from_f32(value).to_bits()
    }
}

impl Element for Bf16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: as the trait says.
        unsafe { S::load_bf16(from) }
    }
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }
    /// To nearest, ties to even; what is no number stays none.
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        let bits = value.to_bits();
        if value.is_nan() {
            return (bits >> 16) as u16 | 0x40;
        }
        (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
    }
}
