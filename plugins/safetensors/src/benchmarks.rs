//! The kernels for the host to measure: the very products that models are computed with, on a pool as models have it.

#![expect(unsafe_code, reason = "threads write disjoint columns of one buffer")]

use std::sync::Arc;

use impetus_plugin_api::sdk::{Benchmarks, Work};
use impetus_plugin_api::{BenchDevice, BenchTask, PluginError, operation};

use crate::checkpoint::{Dtype, Matrix, Weight};
use crate::kernels::{Kernels, Level, Operand, Output};
use crate::options::Quantize;
use crate::pool::{Pool, Shared};

/// The processor, at one instruction set.
pub(crate) struct KernelBenchmarks {
    pub(crate) level: Level,
}

impl Benchmarks for KernelBenchmarks {
    fn devices(&self) -> Vec<BenchDevice> {
        let level = if self.level.runs_here() { self.level } else { Level::best() };
        let operations = [operation::PRODUCT_F32, operation::PRODUCT_BF16, operation::PRODUCT_INT8];
        vec![BenchDevice {
            id: "cpu".into(),
            kind: "cpu".into(),
            name: format!("own kernels, {level}").into(),
            memory_bytes: 0,
            operations: operations.map(Into::into).to_vec().into(),
        }]
    }

    fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
        Ok(Box::new(Product::new(Kernels::of(self.level), &task)?))
    }
}

/// `out[rows][columns] = a[rows][inner] · weight[columns][inner]ᵀ`
struct Product {
    kernels: &'static Kernels,
    pool: Pool,
    a: Operand,
    rows: usize,
    weight: Weight,
    out: Vec<f32>,
}

impl Product {
    fn new(kernels: &'static Kernels, task: &BenchTask<'_>) -> Result<Self, PluginError> {
        let [rows, inner, columns] = sizes(task)?;
        let threads = task.threads.max(1) as usize;
        let dtype = if task.operation == operation::PRODUCT_BF16 { Dtype::Bf16 } else { Dtype::F32 };
        let matrix = Matrix::made(dtype, columns, inner, &numbers(columns * inner));
        let weight = if task.operation == operation::PRODUCT_INT8 {
            let packed = Quantize::Int8.rounding().round((&matrix, None), threads)?;
            let packed = packed.ok_or_else(|| {
                PluginError::unsupported(format!("rows of {inner} numbers are no whole groups of 32"))
            })?;
            Weight::Grouped(Arc::new(packed))
        } else {
            Weight::Plain(matrix)
        };
        let mut pool = Pool::new(threads);
        let mut a = Operand::new(rows, inner, kernels.wants(&weight));
        let floats = numbers(rows * inner);
        let shared = a.share();
        for (row, numbers) in floats.chunks_exact(inner).enumerate() {
            // SAFETY: one thread.
            unsafe { shared.fill(kernels, row, 0..inner, |to| to.copy_from_slice(numbers)) };
        }
        a.finish(kernels, &mut pool, rows);
        Ok(Product { kernels, pool, a, rows, weight, out: vec![0.0; rows * columns] })
    }
}

impl Work for Product {
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        let Product { kernels, pool, a, rows, weight, out } = self;
        let (columns, grain) = (weight.rows(), weight.grain(*rows));
        let to = Shared::new(out);
        for _ in 0..times {
            pool.split(columns, grain, |range| {
                let out = Output { to: &to, stride: columns, column: 0, add: false, scale: 1.0 };
                // SAFETY: each column is one thread's.
                unsafe { kernels.multiply((a, *rows), (weight, None), range, &out) }
            });
        }
        Ok(())
    }
}

fn sizes(task: &BenchTask<'_>) -> Result<[usize; 3], PluginError> {
    // Three matrices of this many numbers still fit into any memory that models run in.
    const MOST: u64 = 1 << 28;
    let sizes = [task.rows, task.inner, task.columns];
    let products = [(task.rows, task.inner), (task.columns, task.inner), (task.rows, task.columns)];
    if products.into_iter().any(|(a, b)| a.checked_mul(b).is_none_or(|numbers| numbers > MOST)) {
        let message = format!("a product of {sizes:?} is too large: a matrix may have {MOST} numbers");
        return Err(PluginError::invalid_argument(message));
    }
    Ok(sizes.map(|size| size as usize))
}

/// Between -1 and 1, no two neighbours alike.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_are_products() {
        for (operation, tolerance) in
            [(operation::PRODUCT_F32, 1e-3), (operation::PRODUCT_BF16, 0.2), (operation::PRODUCT_INT8, 0.3)]
        {
            let task = BenchTask {
                device: "cpu".into(),
                operation: operation.into(),
                threads: 2,
                rows: 17,
                inner: 128,
                columns: 40,
                bytes: 0,
            };
            let mut product = Product::new(Kernels::of(Level::best()), &task).unwrap();
            product.run(2).unwrap();
            let (a, b) = (numbers(17 * 128), numbers(40 * 128));
            for (at, found) in product.out.iter().enumerate() {
                let (row, column) = (at / 40, at % 40);
                let pairs = a[row * 128..].iter().zip(&b[column * 128..]).take(128);
                let expected: f32 = pairs.map(|(a, b)| a * b).sum();
                assert!(
                    (found - expected).abs() < tolerance,
                    "{operation} {row},{column}: {found} for {expected}"
                );
            }
        }
    }
}
