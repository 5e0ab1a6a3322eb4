//! Room that only one kernel knows, beside what all kernels share.

use std::any::Any;

/// Values of any types, one of each at most, made when they are first asked for.
#[derive(Default)]
pub(crate) struct Own(Vec<Box<dyn Any + Send>>);

impl Own {
    /// The value of type `T`, made if there is none.
    pub(crate) fn get_or_make<T: Default + Send + 'static>(&mut self) -> &mut T {
        let at = self.0.iter().position(|own| own.is::<T>()).unwrap_or_else(|| {
            self.0.push(Box::<T>::default());
            self.0.len() - 1
        });
        self.0[at].downcast_mut().expect("found by its type")
    }

    /// The value of type `T`.
    ///
    /// # Panics
    /// When nothing has made it.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn get<T: 'static>(&self) -> &T {
        self.0.iter().find_map(|own| own.downcast_ref()).expect("made by what filled the rest")
    }
}
