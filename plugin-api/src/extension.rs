//! How the contract grows within a major: named tables of functions, each with its own layout check.
//!
//! The root module and the traits are frozen; what comes later is an extension such as `"embeddings/1"`. The number
//! after the slash is the extension's own major.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::type_layout::TypeLayout;

use crate::PluginError;

/// A table that one side offers the other, with the layout it was compiled with.
///
/// ```
/// use abi_stable::StableAbi;
/// use impetus_plugin_api::{Extension, abi_stable};
///
/// #[repr(C)]
/// #[derive(StableAbi, Debug)]
/// struct Adder { add: extern "C" fn(u32, u32) -> u32 }
/// extern "C" fn add(a: u32, b: u32) -> u32 { a + b }
/// static ADDER: Adder = Adder { add };
///
/// let offered = Extension::new(&ADDER);
/// let table = offered.table::<Adder>("adder/1").unwrap();
/// assert_eq!((table.add)(2, 3), 5);
///
/// #[repr(C)]
/// #[derive(StableAbi, Debug)]
/// struct Other { add: extern "C" fn(u64) -> u32 }
/// let refused = offered.table::<Other>("adder/1").unwrap_err();
/// assert!(refused.message.contains("adder/1"));
/// ```
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Extension {
    layout: &'static TypeLayout,
    table: *const (),
}

// SAFETY: `new` takes a `&'static T` with `T: Sync`, and `table` only ever gives that shared reference back.
unsafe impl Send for Extension {}
// SAFETY: as above: a shared reference to a `Sync` value may be used from every thread.
unsafe impl Sync for Extension {}

impl Extension {
    /// Offers a table that lives as long as the process.
    pub fn new<T: StableAbi + Sync>(table: &'static T) -> Self {
        Extension { layout: T::LAYOUT, table: std::ptr::from_ref(table).cast() }
    }

    /// The table, if it was compiled with the layout that the caller knows. `name` appears in the error.
    ///
    /// # Errors
    /// [`UNSUPPORTED`](crate::ErrorCode::UNSUPPORTED) when the layouts differ.
    pub fn table<T: StableAbi + Sync>(&self, name: &str) -> Result<&'static T, PluginError> {
        check_layout_compatibility(T::LAYOUT, self.layout).map_err(|errors| {
            PluginError::unsupported(format!(
                "extension `{name}` is laid out differently on the two sides; rebuild the plugin against this host's \
                 plugin-api {}",
                crate::API_VERSION
            ))
            .with_detail(errors.to_string())
        })?;
        // SAFETY: the pointer came from a `&'static` of the layout that was just found compatible with `T`.
        Ok(unsafe { &*self.table.cast::<T>() })
    }
}

impl std::fmt::Debug for Extension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extension").field("type", &self.layout.full_type().to_string()).finish()
    }
}
