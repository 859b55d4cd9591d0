//! A checkpoint's tensors as candle asks for them: float32, each once in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use impetus_plugin_api::PluginError;

use crate::checkpoint::Checkpoint;

/// Tensors by their names without the checkpoint's prefix.
pub(crate) struct Tensors {
    by_name: BTreeMap<String, Tensor>,
    prefix: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Which tensors were asked for.
pub(crate) struct Used {
    names: Vec<String>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tensors {
    /// Copies every tensor. Names may begin with `prefix`, here and where candle asks for them.
    ///
    /// # Errors
    /// `UNSUPPORTED` with the name of a tensor that is of no float type or has more than three dimensions.
    pub(crate) fn read(checkpoint: &Checkpoint, prefix: &'static str) -> Result<Self, PluginError> {
        let mut by_name = BTreeMap::new();
        for entry in checkpoint.entries() {
            let name = &entry.name;
            let floats = match *entry.shape.as_slice() {
                [length] => checkpoint.vector(name, length)?,
                [rows, columns] => checkpoint.matrix(name, rows, columns)?.to_floats(),
                [count, rows, columns] => checkpoint.matrices(name, [count, rows, columns])?.to_floats(),
                _ => {
                    return Err(PluginError::unsupported(format!(
                        "tensor `{name}` has {} dimensions; supported are one to three",
                        entry.shape.len()
                    )));
                }
            };
            let tensor = Tensor::from_vec(floats, entry.shape.as_slice(), &Device::Cpu)
                .map_err(|error| PluginError::internal(error.to_string()))?;
            by_name.insert(name.strip_prefix(prefix).unwrap_or(name).to_owned(), tensor);
        }
        Ok(Tensors { by_name, prefix, asked: Arc::default() })
    }

    /// Has a tensor under another name, where it is.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(tensor) = self.by_name.remove(from) {
            self.by_name.insert(to.to_owned(), tensor);
        }
    }

    /// To look at what was asked for, once all of it was.
    pub(crate) fn used(&self) -> Used {
        Used { names: self.by_name.keys().cloned().collect(), asked: Arc::clone(&self.asked) }
    }

    fn find(&self, name: &str) -> candle_core::Result<Tensor> {
        let name = name.strip_prefix(self.prefix).unwrap_or(name);
        if let Ok(mut asked) = self.asked.lock() {
            asked.push(name.to_owned());
        }
        let missing = || candle_core::Error::Msg(format!("tensor `{name}` is missing"));
        self.by_name.get(name).cloned().ok_or_else(missing)
    }
}

impl SimpleBackend for Tensors {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.find(name)?;
        if tensor.shape() == &shape {
            return Ok(tensor);
        }
        let (found, wanted) = (tensor.dims(), shape.dims());
        Err(candle_core::Error::Msg(format!(
            "tensor `{name}` has the shape {found:?}; config.json makes it {wanted:?}"
        )))
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        self.find(name)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.by_name.contains_key(name.strip_prefix(self.prefix).unwrap_or(name))
    }
}

impl Used {
    /// # Errors
    /// `UNSUPPORTED` with a tensor that nobody asked for and that is not `known` to be of no use.
    pub(crate) fn check_all(&self, known: impl Fn(&str) -> bool) -> Result<(), PluginError> {
        let asked = self.asked.lock().map(|asked| asked.clone()).unwrap_or_default();
        match self.names.iter().find(|name| !known(name) && !asked.contains(name)) {
            None => Ok(()),
            Some(name) => Err(PluginError::unsupported(format!(
                "tensor `{name}` has no place in a model as config.json describes it"
            ))),
        }
    }
}
