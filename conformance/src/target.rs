//! What the cases run on.

use dyt::{Backend, Backward, Buffer, Device, Forward, Pass, Problem, Result, View, ViewMut};

/// Whatever runs problems and can be held to the table: a [`Device`], or kernels that run without one.
pub trait Target: Sync {
    /// Its name in the coverage line.
    fn name(&self) -> String;
    /// The backend whose bounds hold.
    fn backend(&self) -> Backend;
    /// As [`Device::upload`].
    ///
    /// # Errors
    /// Its own.
    fn upload(&self, source: View<'_>) -> Result<Buffer>;
    /// As [`Device::read`].
    ///
    /// # Errors
    /// Its own.
    fn read(&self, source: &Buffer, target: ViewMut<'_>) -> Result<()>;
    /// As [`Device::workspace_bytes`].
    fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize;
    /// As [`Device::forward`].
    ///
    /// # Errors
    /// Its own.
    fn forward(&self, problem: &Problem, arguments: Forward<'_>) -> Result<()>;
    /// As [`Device::backward_with`].
    ///
    /// # Errors
    /// Its own.
    fn backward_with(&self, problem: &Problem, arguments: Backward<'_>, workspace: ViewMut<'_>)
    -> Result<()>;
}

impl Target for Device {
    fn name(&self) -> String {
        self.name()
    }
    fn backend(&self) -> Backend {
        self.backend()
    }
    fn upload(&self, source: View<'_>) -> Result<Buffer> {
        self.upload(source)
    }
    fn read(&self, source: &Buffer, target: ViewMut<'_>) -> Result<()> {
        self.read(source, target)
    }
    fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        self.workspace_bytes(problem, pass)
    }
    fn forward(&self, problem: &Problem, arguments: Forward<'_>) -> Result<()> {
        self.forward(problem, arguments)
    }
    fn backward_with(
        &self,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> Result<()> {
        self.backward_with(problem, arguments, workspace)
    }
}
