//! Activations times a packed matrix of affine groups (see [`Panels`](crate::checkpoint::Panels)).
//!
//! Activations are rounded to whole numbers between -127 and 127, a factor for each group; a group's products are summed
//! as whole numbers, without error, for sixteen rows of the matrix at a time:
//! `Σ w a = factor * (scale * Σ code activation + bias * Σ activation)`.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use super::multiply::Sink;
use super::simd::{Element, Integers, LANES, Simd};
use crate::checkpoint::{CodeBits, Layout};

/// One call: `out[r][n] = scale * (a[r] · w[n] + bias[n])`.
///
/// The pointers are valid for the shapes: `codes` `[rows][columns]`, `factors` and `sums` `[rows][columns / group]` of
/// the activations, `panels` `[panels]` of the layout, with `count` rows of the matrix; the sink has `count` columns.
pub(super) struct Affine<'a> {
    pub(super) codes: *const i8,
    pub(super) factors: *const f32,
    pub(super) sums: *const f32,
    /// Columns of a group of the activations: they divide the matrix's groups.
    pub(super) group: usize,
    pub(super) rows: usize,
    pub(super) panels: *const u8,
    pub(super) count: usize,
    pub(super) layout: &'a Layout,
    pub(super) sink: Sink,
}

/// # Safety
/// The machine has `I`; `job` is as its type says, its scales of the type `E`.
#[inline(always)]
pub(super) unsafe fn run<I: Integers, E: Element>(job: &Affine<'_>) {
    let panels = job.count.div_ceil(LANES);
    let mut panel = 0;
    // SAFETY: rows and panels are within the job's shapes.
    unsafe {
        if I::PAIRS && job.rows > 1 {
            while panel + 2 <= panels {
                either::<I, E, 2>(job, panel);
                panel += 2;
            }
        }
        while panel < panels {
            either::<I, E, 1>(job, panel);
            panel += 1;
        }
    }
}

/// Some panels, by the bits of their codes.
#[inline(always)]
unsafe fn either<I: Integers, E: Element, const PANELS: usize>(job: &Affine<'_>, panel: usize) {
    // SAFETY: rows and panels are within the job's shapes.
    unsafe {
        let from = job.panels.add(panel * job.layout.panel_bytes());
        match job.layout.bits {
            CodeBits::Four => down::<I, E, true, PANELS>(job, from, panel * LANES),
            CodeBits::Eight => down::<I, E, false, PANELS>(job, from, panel * LANES),
        }
    }
}

/// Panels with every row of activations: their codes stay in the first cache.
#[inline(always)]
unsafe fn down<I: Integers, E: Element, const FOUR: bool, const PANELS: usize>(
    job: &Affine<'_>,
    panel: *const u8,
    n: usize,
) {
    let mut row = 0;
    // SAFETY: rows are within the job's shapes.
    unsafe {
        if PANELS == 1 && I::TALL {
            while row + 8 <= job.rows {
                tile::<I, E, FOUR, PANELS, 8>(job, panel, row, n);
                row += 8;
            }
        } else if PANELS > 1 {
            while row + 6 <= job.rows {
                tile::<I, E, FOUR, PANELS, 6>(job, panel, row, n);
                row += 6;
            }
        }
        while row + 4 <= job.rows {
            tile::<I, E, FOUR, PANELS, 4>(job, panel, row, n);
            row += 4;
        }
        match job.rows - row {
            3 => tile::<I, E, FOUR, PANELS, 3>(job, panel, row, n),
            2 => tile::<I, E, FOUR, PANELS, 2>(job, panel, row, n),
            1 => tile::<I, E, FOUR, PANELS, 1>(job, panel, row, n),
            _ => {}
        }
    }
}

/// Bytes by which a stream of codes is asked for before its use.
const AHEAD: usize = 4096;

#[inline(always)]
unsafe fn tile<I: Integers, E: Element, const FOUR: bool, const PANELS: usize, const ROWS: usize>(
    job: &Affine<'_>,
    panel: *const u8,
    row: usize,
    n: usize,
) {
    let Layout { columns, group, .. } = *job.layout;
    let size = job.layout.panel_bytes();
    let parts = group / job.group;
    let groups = columns / job.group;
    // SAFETY: rows, groups and words are within the job's shapes; what is only prefetched need not exist.
    unsafe {
        let mut products = [[I::Floats::splat(0.0); PANELS]; ROWS];
        let codes = job.codes.add(row * columns);
        let mut at = panel;
        for part in 0..groups {
            // The group's scales and biases come first, and are looked at again for each part of it.
            let factors = panel.add(part / parts * job.layout.group_bytes());
            if part % parts == 0 {
                at = factors.add(2 * LANES * size_of::<E::Bits>());
            }
            let mut sums = [[I::zero(); PANELS]; ROWS];
            let first = codes.add(part * job.group);
            let mut i = 0;
            while i < job.group {
                if ROWS == 1 {
                    I::Floats::prefetch(at.wrapping_add(AHEAD));
                }
                if FOUR {
                    let halves: [_; PANELS] = std::array::from_fn(|p| I::load_halves(at.add(p * size)));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let activations = first.add(r * columns + i);
                        for (sum, [low, high]) in sums.iter_mut().zip(halves) {
                            *sum = I::dot(I::dot(*sum, low, activations), high, activations.add(4));
                        }
                    }
                } else {
                    let codes: [_; PANELS] = std::array::from_fn(|p| I::load(at.add(p * size)));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        for (sum, codes) in sums.iter_mut().zip(codes) {
                            *sum = I::dot(*sum, codes, first.add(r * columns + i));
                        }
                    }
                }
                i += if FOUR { 8 } else { 4 };
                at = at.add(4 * LANES);
            }
            for p in 0..PANELS {
                let factors = factors.add(p * size).cast::<E::Bits>();
                let (scales, biases) = line::<I, E, FOUR>(factors);
                for r in 0..ROWS {
                    let place = (row + r) * groups + part;
                    let bias = I::Floats::mul(biases, I::Floats::splat(*job.sums.add(place)));
                    let whole = I::Floats::fma(I::to_floats(sums[r][p]), scales, bias);
                    products[r][p] =
                        I::Floats::fma(whole, I::Floats::splat(*job.factors.add(place)), products[r][p]);
                }
            }
        }
        for (r, products) in products.into_iter().enumerate() {
            for (p, product) in products.into_iter().enumerate() {
                let n = n + p * LANES;
                job.sink.write_lanes::<I::Floats>(row + r, n, LANES.min(job.count - n), product);
            }
        }
    }
}

/// A group's scales and biases; what is taken off its codes is given back with the latter.
#[inline(always)]
unsafe fn line<I: Integers, E: Element, const FOUR: bool>(
    factors: *const E::Bits,
) -> (<I::Floats as Simd>::V, <I::Floats as Simd>::V) {
    // SAFETY: a vector of each is there.
    unsafe {
        let scales = E::load::<I::Floats>(factors);
        let biases = E::load::<I::Floats>(factors.add(LANES));
        if FOUR || I::OFFSET == 0.0 {
            return (scales, biases);
        }
        (scales, I::Floats::fma(scales, I::Floats::splat(I::OFFSET), biases))
    }
}

/// Of each group of a row: its factor, and the sum of its codes.
pub(super) type Totals<'a> = (&'a mut [f32], &'a mut [f32]);

/// Rounds a row of activations: codes, and of each group its factor and the sum of its codes.
///
/// # Safety
/// The machine has `S`; a group is a multiple of [`LANES`] long, and the row is of whole groups.
#[inline(always)]
pub(super) unsafe fn round<S: Simd>(
    row: &[f32],
    group: usize,
    codes: &mut [i8],
    (factors, sums): Totals<'_>,
) {
    let groups = row.chunks_exact(group).zip(codes.chunks_exact_mut(group));
    for (((row, codes), factor), sum) in groups.zip(factors).zip(sums) {
        // SAFETY: a vector fits wherever a group has one.
        unsafe {
            let mut most = S::splat(0.0);
            for x in row.chunks_exact(LANES) {
                let x = S::load(x.as_ptr());
                most = S::max(most, S::max(x, S::sub(S::splat(0.0), x)));
            }
            let most = S::largest(most);
            let inverse = S::splat(if most > 0.0 { 127.0 / most } else { 0.0 });
            let mut total = S::splat(0.0);
            for (x, codes) in row.chunks_exact(LANES).zip(codes.chunks_exact_mut(LANES)) {
                let code = S::round(S::mul(S::load(x.as_ptr()), inverse));
                total = S::add(total, code);
                S::store_bytes(codes.as_mut_ptr(), code);
            }
            (*factor, *sum) = (most / 127.0, S::sum(total));
        }
    }
}
