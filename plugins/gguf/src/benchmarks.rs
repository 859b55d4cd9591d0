//! llama.cpp's devices for the host to measure: whatever ggml was built with, through ggml's own products and copies.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use impetus_plugin_api::sdk::{Benchmarks, Work};
use impetus_plugin_api::{BenchDevice, BenchTask, ErrorCode, PluginError, operation};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use crate::native::ThreadPool;

/// The devices that ggml knows in this build.
pub(crate) struct GgmlBenchmarks {
    /// Started before any device is looked at.
    pub(crate) _backend: Arc<LlamaBackend>,
}

const OPERATIONS: [&str; 5] = [
    operation::PRODUCT_F32,
    operation::PRODUCT_BF16,
    operation::PRODUCT_INT8,
    operation::COPY_TO_DEVICE,
    operation::COPY_FROM_DEVICE,
];

impl Benchmarks for GgmlBenchmarks {
    fn devices(&self) -> Vec<BenchDevice> {
        devices().map(|device| device.described()).collect()
    }

    fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
        let device = devices().find(|device| device.id() == task.device.as_str());
        let device = device.ok_or_else(|| PluginError::unsupported("that device is gone"))?;
        let backend = Backend::of(device, task.threads.max(1))?;
        Ok(match task.operation.as_str() {
            operation::COPY_TO_DEVICE => Box::new(Copy::new(backend, task.bytes, Way::ToDevice)?),
            operation::COPY_FROM_DEVICE => Box::new(Copy::new(backend, task.bytes, Way::FromDevice)?),
            other => Box::new(product(backend, other, [task.inner, task.columns, task.rows])?),
        })
    }
}

/// A device of ggml's. It lives as long as the process.
#[derive(Clone, Copy)]
struct Device(NonNull<sys::ggml_backend_device>);

#[expect(unsafe_code, reason = "ggml is a C library")]
fn devices() -> impl Iterator<Item = Device> {
    // SAFETY: plain functions of ggml's register of devices, which only grows.
    let count = unsafe { sys::ggml_backend_dev_count() };
    // SAFETY: as above; the index is below the count.
    (0..count).filter_map(|i| NonNull::new(unsafe { sys::ggml_backend_dev_get(i) }).map(Device))
}

#[expect(unsafe_code, reason = "ggml is a C library")]
impl Device {
    fn id(self) -> String {
        // SAFETY: the device lives; its name is a C string that lives as long.
        unsafe { CStr::from_ptr(sys::ggml_backend_dev_name(self.0.as_ptr())) }.to_string_lossy().into_owned()
    }

    fn described(self) -> BenchDevice {
        let device = self.0.as_ptr();
        // SAFETY: as in `id`.
        let name = unsafe { CStr::from_ptr(sys::ggml_backend_dev_description(device)) }.to_string_lossy();
        // SAFETY: as above.
        let kind = match unsafe { sys::ggml_backend_dev_type(device) } {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => "cpu",
            sys::GGML_BACKEND_DEVICE_TYPE_GPU | sys::GGML_BACKEND_DEVICE_TYPE_IGPU => "gpu",
            _ => "accelerator",
        };
        let (mut free, mut total) = (0, 0);
        if kind == "gpu" {
            // SAFETY: both places are ours.
            unsafe { sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total) };
        }
        BenchDevice {
            id: self.id().into(),
            kind: kind.into(),
            name: match kind {
                "cpu" => format!("ggml, {}, {}", name.trim(), instructions()).into(),
                _ => format!("ggml, {}", name.trim()).into(),
            },
            memory_bytes: total as u64,
            operations: OPERATIONS.map(Into::into).to_vec().into(),
        }
    }
}

/// The instruction sets that ggml's own products use on this processor: those that it was built with and finds.
#[expect(unsafe_code, reason = "ggml is a C library")]
fn instructions() -> String {
    // SAFETY: plain functions without arguments.
    let has = unsafe {
        [
            ("avx", sys::ggml_cpu_has_avx()),
            ("avx2", sys::ggml_cpu_has_avx2()),
            ("fma", sys::ggml_cpu_has_fma()),
            ("f16c", sys::ggml_cpu_has_f16c()),
            ("avx_vnni", sys::ggml_cpu_has_avx_vnni()),
            ("avx512", sys::ggml_cpu_has_avx512()),
            ("avx512_vnni", sys::ggml_cpu_has_avx512_vnni()),
            ("avx512_bf16", sys::ggml_cpu_has_avx512_bf16()),
            ("amx_int8", sys::ggml_cpu_has_amx_int8()),
            ("neon", sys::ggml_cpu_has_neon()),
            ("dotprod", sys::ggml_cpu_has_dotprod()),
            ("i8mm", sys::ggml_cpu_has_matmul_int8()),
            ("sve", sys::ggml_cpu_has_sve()),
        ]
    };
    let found: Vec<&str> = has.into_iter().filter(|(_, has)| *has != 0).map(|(name, _)| name).collect();
    if found.is_empty() {
        "no vector instructions beyond the architecture's".to_owned()
    } else {
        found.join(" ")
    }
}

/// A stream of work on a device.
struct Backend {
    backend: NonNull<sys::ggml_backend>,
    /// Those of a processor, as models have them; freed after the backend.
    _threads: Option<ThreadPool>,
}

#[expect(unsafe_code, reason = "ggml is a C library")]
impl Backend {
    fn of(device: Device, threads: u32) -> Result<Self, PluginError> {
        // SAFETY: the device lives; null stands for no parameters.
        let backend = unsafe { sys::ggml_backend_dev_init(device.0.as_ptr(), std::ptr::null()) };
        let backend = NonNull::new(backend)
            .ok_or_else(|| PluginError::internal(format!("ggml cannot start the device {}", device.id())))?;
        let backend = Backend { backend, _threads: None };
        // SAFETY: the backend was just made.
        if unsafe { sys::ggml_backend_is_cpu(backend.as_ptr()) } {
            return backend.with_threads(threads);
        }
        Ok(backend)
    }

    /// Without a pool, ggml starts and ends its threads in every product.
    fn with_threads(self, threads: u32) -> Result<Self, PluginError> {
        let pool = ThreadPool::new(threads);
        let pool =
            pool.ok_or_else(|| PluginError::internal(format!("ggml cannot start {threads} threads")))?;
        // SAFETY: both live, it is the processor's backend, and the pool is freed after it.
        unsafe {
            sys::ggml_backend_cpu_set_n_threads(self.as_ptr(), i32::try_from(threads).unwrap_or(1));
            sys::ggml_backend_cpu_set_threadpool(self.as_ptr(), pool.as_ptr());
        }
        let whole = std::mem::ManuallyDrop::new(self);
        Ok(Backend { backend: whole.backend, _threads: Some(pool) })
    }

    fn as_ptr(&self) -> sys::ggml_backend_t {
        self.backend.as_ptr()
    }
}

impl Drop for Backend {
    #[expect(unsafe_code, reason = "ggml's backend is freed by hand")]
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::ggml_backend_free(self.as_ptr()) }
    }
}

/// Tensors in a device's memory.
struct Tensors {
    context: NonNull<sys::ggml_context>,
    buffer: Option<NonNull<sys::ggml_backend_buffer>>,
}

#[expect(unsafe_code, reason = "ggml is a C library")]
impl Tensors {
    /// Room for the description of a few tensors and a graph.
    fn new() -> Result<Self, PluginError> {
        // SAFETY: plain functions; the context allocates its own memory.
        let context = unsafe {
            let mem_size = 8 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead();
            sys::ggml_init(sys::ggml_init_params {
                mem_size,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        let context = NonNull::new(context)
            .ok_or_else(|| PluginError::new(ErrorCode::OUT_OF_MEMORY, "ggml has no memory for a context"))?;
        Ok(Tensors { context, buffer: None })
    }

    fn matrix(&self, kind: sys::ggml_type, width: i64, height: i64) -> Result<Tensor, PluginError> {
        // SAFETY: the context has room, and lives as long as its tensors are used.
        let tensor = unsafe { sys::ggml_new_tensor_2d(self.context.as_ptr(), kind, width, height) };
        NonNull::new(tensor).map(Tensor).ok_or_else(|| PluginError::internal("ggml made no tensor"))
    }

    /// Gives every tensor its memory on the device.
    fn allocate(&mut self, backend: &Backend) -> Result<(), PluginError> {
        // SAFETY: both live.
        let buffer = unsafe { sys::ggml_backend_alloc_ctx_tensors(self.context.as_ptr(), backend.as_ptr()) };
        self.buffer = NonNull::new(buffer.cast());
        self.buffer.map(|_| ()).ok_or_else(|| {
            PluginError::new(ErrorCode::OUT_OF_MEMORY, "the device has no memory for the tensors")
        })
    }
}

impl Drop for Tensors {
    #[expect(unsafe_code, reason = "ggml's memory is freed by hand")]
    fn drop(&mut self) {
        // SAFETY: both are ours and not used again.
        unsafe {
            if let Some(buffer) = self.buffer {
                sys::ggml_backend_buffer_free(buffer.as_ptr());
            }
            sys::ggml_free(self.context.as_ptr());
        }
    }
}

/// Lives in its [`Tensors`].
#[derive(Clone, Copy)]
struct Tensor(NonNull<sys::ggml_tensor>);

#[expect(unsafe_code, reason = "ggml is a C library")]
impl Tensor {
    fn bytes(self) -> usize {
        // SAFETY: the tensor lives.
        unsafe { sys::ggml_nbytes(self.0.as_ptr()) }
    }

    /// # Panics
    /// When there are not as many bytes.
    fn set(self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes(), "a tensor is filled whole: this is a bug");
        // SAFETY: the tensor has memory, as much as there are bytes.
        unsafe { sys::ggml_backend_tensor_set(self.0.as_ptr(), bytes.as_ptr().cast(), 0, bytes.len()) }
    }

    /// # Panics
    /// When there are not as many bytes.
    fn get(self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.bytes(), "a tensor is read whole: this is a bug");
        // SAFETY: as in `set`.
        unsafe { sys::ggml_backend_tensor_get(self.0.as_ptr(), bytes.as_mut_ptr().cast(), 0, bytes.len()) }
    }
}

/// `C = A Bᵀ` as a graph of one node.
struct Product {
    graph: NonNull<sys::ggml_cgraph>,
    /// Freed before the backend.
    _tensors: Tensors,
    backend: Backend,
}

#[expect(unsafe_code, reason = "whoever has the work has its pointers alone")]
// SAFETY: ggml ties none of these to a thread; `&mut self` keeps calls one after another.
unsafe impl Send for Product {}

fn product(backend: Backend, operation: &str, sizes: [u64; 3]) -> Result<Product, PluginError> {
    let kind = match operation {
        operation::PRODUCT_F32 => sys::GGML_TYPE_F32,
        operation::PRODUCT_BF16 => sys::GGML_TYPE_BF16,
        operation::PRODUCT_INT8 => sys::GGML_TYPE_Q8_0,
        other => return Err(PluginError::unsupported(format!("no operation `{other}` is known here"))),
    };
    let [inner, columns, rows] = sizes;
    let most = |a: u64, b: u64| a.checked_mul(b).is_some_and(|numbers| numbers <= 1 << 28);
    if !(most(inner, columns) && most(inner, rows) && most(columns, rows)) {
        return Err(PluginError::invalid_argument("a matrix may have 2^28 numbers"));
    }
    if !inner.is_multiple_of(32) {
        return Err(PluginError::unsupported(format!("rows of {inner} numbers are no whole blocks of 32")));
    }
    Product::new(backend, kind, [inner as i64, columns as i64, rows as i64])
}

#[expect(unsafe_code, reason = "ggml is a C library")]
impl Product {
    fn new(backend: Backend, kind: sys::ggml_type, sizes: [i64; 3]) -> Result<Self, PluginError> {
        let [inner, columns, rows] = sizes;
        let mut tensors = Tensors::new()?;
        let weights = tensors.matrix(kind, inner, columns)?;
        let activations = tensors.matrix(sys::GGML_TYPE_F32, inner, rows)?;
        // SAFETY: the context lives and has room for the result and a graph.
        let graph = unsafe {
            let context = tensors.context.as_ptr();
            let result = sys::ggml_mul_mat(context, weights.0.as_ptr(), activations.0.as_ptr());
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, result);
            graph
        };
        let graph = NonNull::new(graph).ok_or_else(|| PluginError::internal("ggml made no graph"))?;
        tensors.allocate(&backend)?;
        weights.set(&encoded(kind, &numbers((inner * columns) as usize), weights.bytes(), [columns, inner]));
        activations.set(&floats(&numbers((inner * rows) as usize)));
        Ok(Product { graph, _tensors: tensors, backend })
    }
}

impl Work for Product {
    #[expect(unsafe_code, reason = "ggml is a C library")]
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        for _ in 0..times {
            // SAFETY: both live; it returns when the device has computed.
            let status =
                unsafe { sys::ggml_backend_graph_compute(self.backend.as_ptr(), self.graph.as_ptr()) };
            if status != sys::GGML_STATUS_SUCCESS {
                return Err(PluginError::internal(format!("ggml's product failed with status {status}")));
            }
        }
        Ok(())
    }
}

enum Way {
    ToDevice,
    FromDevice,
}

/// Bytes between the host's memory and a device's.
struct Copy {
    way: Way,
    here: Vec<u8>,
    there: Tensor,
    /// Freed before the backend.
    _tensors: Tensors,
    _backend: Backend,
}

#[expect(unsafe_code, reason = "whoever has the work has its pointers alone")]
// SAFETY: as for `Product`.
unsafe impl Send for Copy {}

impl Copy {
    fn new(backend: Backend, bytes: u64, way: Way) -> Result<Self, PluginError> {
        let width = i64::try_from(bytes).ok().filter(|bytes| *bytes <= 1 << 32);
        let width = width.ok_or_else(|| PluginError::invalid_argument("at most 4 GiB are copied at once"))?;
        let mut tensors = Tensors::new()?;
        let there = tensors.matrix(sys::GGML_TYPE_I8, width, 1)?;
        tensors.allocate(&backend)?;
        let here = vec![1; there.bytes()];
        there.set(&here);
        Ok(Copy { way, here, there, _tensors: tensors, _backend: backend })
    }
}

impl Work for Copy {
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        for _ in 0..times {
            match self.way {
                Way::ToDevice => self.there.set(&self.here),
                Way::FromDevice => self.there.get(&mut self.here),
            }
        }
        Ok(())
    }
}

/// Numbers as ggml stores them in rows of a type.
#[expect(unsafe_code, reason = "ggml is a C library")]
fn encoded(kind: sys::ggml_type, numbers: &[f32], bytes: usize, [rows, width]: [i64; 2]) -> Vec<u8> {
    let mut encoded = vec![0; bytes];
    // SAFETY: there are rows times width numbers, and as many bytes as ggml said that a tensor of them has.
    unsafe {
        let (from, to) = (numbers.as_ptr(), encoded.as_mut_ptr().cast());
        sys::ggml_quantize_chunk(kind, from, to, 0, rows, width, std::ptr::null());
    }
    encoded
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "ggml is a C library")]
    fn what_is_measured_are_products() {
        let processor = devices().find(|device| device.described().kind == "cpu").unwrap();
        for (operation, tolerance) in
            [(operation::PRODUCT_F32, 1e-3), (operation::PRODUCT_BF16, 0.2), (operation::PRODUCT_INT8, 0.3)]
        {
            let backend = Backend::of(processor, 2).unwrap();
            let mut product = product(backend, operation, [128, 40, 17]).unwrap();
            product.run(2).unwrap();
            // SAFETY: the graph lives, and its last node is the product.
            let result = unsafe { sys::ggml_graph_node(product.graph.as_ptr(), -1) };
            let result = Tensor(NonNull::new(result).unwrap());
            let mut bytes = vec![0; result.bytes()];
            result.get(&mut bytes);
            let (a, b) = (numbers(17 * 128), numbers(40 * 128));
            for (at, found) in bytes.chunks_exact(4).enumerate() {
                let found = f32::from_ne_bytes(found.try_into().unwrap());
                let pairs = a[at / 40 * 128..].iter().zip(&b[at % 40 * 128..]).take(128);
                let expected: f32 = pairs.map(|(a, b)| a * b).sum();
                assert!((found - expected).abs() < tolerance, "{operation} at {at}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn products_run_on_threads_that_stay_and_the_device_names_its_instructions() {
        let processor = devices().find(|device| device.described().kind == "cpu").unwrap();
        assert!(processor.described().name.contains(&instructions()), "{:?}", processor.described().name);
        let threads = || -> BTreeSet<_> {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            tasks.map(|task| task.unwrap().file_name()).collect()
        };
        let others = threads();
        let backend = Backend::of(processor, 3).unwrap();
        let new: BTreeSet<_> = threads().difference(&others).cloned().collect();
        let mut product = product(backend, operation::PRODUCT_F32, [128, 40, 17]).unwrap();
        product.run(3).unwrap();
        // Other tests' threads may come and go meanwhile.
        assert!(threads().intersection(&new).count() >= 2, "{new:?}");
    }

    #[test]
    fn copies_arrive() {
        let processor = devices().next().unwrap();
        let mut to = Copy::new(Backend::of(processor, 1).unwrap(), 1000, Way::ToDevice).unwrap();
        to.here.fill(7);
        to.run(1).unwrap();
        let mut back = vec![0; 1000];
        to.there.get(&mut back);
        assert_eq!(back, [7; 1000]);
    }
}
