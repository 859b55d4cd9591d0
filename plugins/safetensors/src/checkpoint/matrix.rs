//! A matrix of weights where it lies: in a mapped file, or in memory where it had to be made.

#![expect(unsafe_code, reason = "weights are read in place from a mapped file")]

use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

/// Types of weights that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Bytes of one number.
    pub(crate) const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Reads the number of this index.
    ///
    /// # Panics
    /// When the bytes end before it.
    pub(crate) fn read(self, bytes: &[u8], i: usize) -> f32 {
        let at = &bytes[i * self.size()..];
        match self {
            Dtype::F32 => f32::from_le_bytes([at[0], at[1], at[2], at[3]]),
            Dtype::F16 => half::f16::from_le_bytes([at[0], at[1]]).to_f32(),
            Dtype::Bf16 => half::bf16::from_le_bytes([at[0], at[1]]).to_f32(),
        }
    }

    /// Writes the nearest number that the type has.
    ///
    /// # Panics
    /// As [`Dtype::read`].
    pub(super) fn write(self, bytes: &mut [u8], i: usize, number: f32) {
        let at = &mut bytes[i * self.size()..(i + 1) * self.size()];
        match self {
            Dtype::F32 => at.copy_from_slice(&number.to_le_bytes()),
            Dtype::F16 => at.copy_from_slice(&half::f16::from_f32(number).to_le_bytes()),
            Dtype::Bf16 => at.copy_from_slice(&half::bf16::from_f32(number).to_le_bytes()),
        }
    }

    /// The nearest number that the type has.
    pub(super) fn round(self, number: f32) -> f32 {
        let mut bytes = [0; 4];
        self.write(&mut bytes, 0, number);
        self.read(&bytes, 0)
    }

    /// As the headers have it.
    pub(crate) fn of(name: safetensors::Dtype) -> Option<Dtype> {
        match name {
            safetensors::Dtype::F32 => Some(Dtype::F32),
            safetensors::Dtype::F16 => Some(Dtype::F16),
            safetensors::Dtype::BF16 => Some(Dtype::Bf16),
            _ => None,
        }
    }
}

/// `[rows][columns]`, row after row; a vector is a matrix of one row. Shared, never changed.
#[derive(Clone)]
pub(crate) struct Matrix {
    bytes: Bytes,
    start: usize,
    dtype: Dtype,
    rows: usize,
    columns: usize,
}

#[derive(Clone)]
enum Bytes {
    Mapped(Arc<Mmap>),
    /// In eights, so that any number in it is aligned.
    Owned(Arc<[u64]>),
}

impl Matrix {
    /// A part of a mapped file, in place; a copy where the file has it at an odd address.
    ///
    /// # Panics
    /// When the range is not as long as the shape says, or beyond the file: headers are checked before.
    pub(super) fn mapped(map: &Arc<Mmap>, range: Range<usize>, dtype: Dtype, shape: (usize, usize)) -> Self {
        let (rows, columns) = shape;
        assert_eq!(range.len(), rows * columns * dtype.size(), "headers are checked: this is a bug");
        let bytes = &map[range.clone()];
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.size());
        let (bytes, start) =
            if aligned { (Bytes::Mapped(Arc::clone(map)), range.start) } else { (owned(bytes), 0) };
        Matrix { bytes, start, dtype, rows, columns }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Where a row begins.
    ///
    /// # Panics
    /// When there is no such row.
    pub(crate) fn row(&self, row: usize) -> *const u8 {
        self.row_bytes(row).as_ptr()
    }

    /// All of its numbers.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.all()[self.start..self.start + self.rows * self.columns * self.dtype.size()]
    }

    /// Some of the rows as a matrix of their own; nothing is copied.
    ///
    /// # Panics
    /// When there are no such rows.
    pub(crate) fn part(&self, rows: Range<usize>) -> Matrix {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows exist: this is a bug");
        let start = self.start + rows.start * self.columns * self.dtype.size();
        Matrix {
            bytes: self.bytes.clone(),
            start,
            dtype: self.dtype,
            rows: rows.len(),
            columns: self.columns,
        }
    }

    /// Some of the columns as rows, in memory of their own.
    ///
    /// # Panics
    /// When there are no such columns.
    pub(crate) fn transposed(&self, columns: Range<usize>) -> Matrix {
        let size = self.dtype.size();
        let mut bytes = vec![0; self.rows * columns.len() * size];
        for row in 0..self.rows {
            let numbers = &self.row_bytes(row)[columns.start * size..columns.end * size];
            for (column, number) in numbers.chunks_exact(size).enumerate() {
                let at = (column * self.rows + row) * size;
                bytes[at..at + size].copy_from_slice(number);
            }
        }
        Matrix { bytes: owned(&bytes), start: 0, dtype: self.dtype, rows: columns.len(), columns: self.rows }
    }

    /// Widens a row.
    ///
    /// # Panics
    /// When there is no such row, or `to` has another length.
    pub(crate) fn read_row(&self, row: usize, to: &mut [f32]) {
        let bytes = self.row_bytes(row);
        assert_eq!(to.len(), self.columns, "one length: this is a bug");
        match self.dtype {
            Dtype::F32 => {
                for (to, from) in to.iter_mut().zip(bytes.chunks_exact(4)) {
                    *to = f32::from_le_bytes([from[0], from[1], from[2], from[3]]);
                }
            }
            Dtype::F16 => {
                for (to, from) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                    *to = half::f16::from_le_bytes([from[0], from[1]]).to_f32();
                }
            }
            Dtype::Bf16 => {
                for (to, from) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                    *to = half::bf16::from_le_bytes([from[0], from[1]]).to_f32();
                }
            }
        }
    }

    /// All of it, widened.
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        let mut floats = vec![0.0; self.rows * self.columns];
        for (row, to) in floats.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.read_row(row, to);
        }
        floats
    }

    fn row_bytes(&self, row: usize) -> &[u8] {
        assert!(row < self.rows, "a row exists: this is a bug");
        let length = self.columns * self.dtype.size();
        let start = self.start + row * length;
        &self.bytes.all()[start..start + length]
    }

    /// A matrix of these numbers.
    ///
    /// # Panics
    /// When there are more or fewer than rows and columns say.
    pub(crate) fn made(dtype: Dtype, rows: usize, columns: usize, floats: &[f32]) -> Self {
        assert_eq!(floats.len(), rows * columns, "a matrix is full: this is a bug");
        let bytes: Vec<u8> = floats
            .iter()
            .flat_map(|&float| match dtype {
                Dtype::F32 => float.to_le_bytes().to_vec(),
                Dtype::F16 => half::f16::from_f32(float).to_le_bytes().to_vec(),
                Dtype::Bf16 => half::bf16::from_f32(float).to_le_bytes().to_vec(),
            })
            .collect();
        Matrix { bytes: owned(&bytes), start: 0, dtype, rows, columns }
    }
}

fn owned(bytes: &[u8]) -> Bytes {
    let eights = bytes.chunks(8).map(|chunk| {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(eight)
    });
    Bytes::Owned(eights.collect())
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            // SAFETY: any eight bytes are eight bytes, and a byte needs no alignment.
            Bytes::Owned(eights) => unsafe {
                std::slice::from_raw_parts(eights.as_ptr().cast(), eights.len() * 8)
            },
        }
    }
}
