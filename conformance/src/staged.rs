//! Calls whose arguments are host memory, on devices that may have a memory of their own: everything is copied there,
//! and what was written is copied back. For tests and for files, where the copies do not matter.

use dyt::{
    Backend, Backward, Buffer, DType, Device, Dsum, Forward, Pass, Problem, Residual, Result, View, ViewMut,
};

/// As [`Device::forward`], with arguments in host memory.
///
/// # Errors
/// Those of [`Device::upload`], [`Device::forward`] and [`Device::read`].
pub fn forward(device: &Device, problem: &Problem, arguments: Forward<'_>) -> Result<()> {
    if device.backend() == Backend::Cpu {
        return device.forward(problem, arguments);
    }
    let input = |view: Option<View<'_>>| view.map(|view| device.upload(view)).transpose();
    let (x, alpha, shift) = (input(arguments.x)?, input(arguments.alpha)?, input(arguments.shift)?);
    let (gamma, beta) = (input(arguments.gamma)?, input(arguments.beta)?);
    let residual = match arguments.residual {
        Some(Residual::Apart(view)) => Some(device.upload(view)?),
        Some(Residual::InSum) | None => None,
    };
    let scale = input(arguments.scale)?;
    let mut scales = Output::new(device, arguments.scales)?;
    let mut y = device.upload(arguments.y.as_view())?;
    let mut sum = Output::new(device, arguments.sum)?;
    let mut mean = Output::new(device, arguments.mean)?;
    let mut rstd = Output::new(device, arguments.rstd)?;
    let mut call = match &x {
        Some(x) => Forward::new(x, &mut y),
        None => Forward::in_place(&mut y),
    };
    call.residual = match &residual {
        Some(buffer) => Some(Residual::Apart(buffer.into())),
        None => arguments.residual,
    };
    call.sum = sum.view();
    call.alpha = alpha.as_ref().map(Into::into);
    call.shift = shift.as_ref().map(Into::into);
    call.gamma = gamma.as_ref().map(Into::into);
    call.beta = beta.as_ref().map(Into::into);
    call.mean = mean.view();
    call.rstd = rstd.view();
    call.scale = scale.as_ref().map(Into::into);
    call.scales = scales.view();
    device.forward(problem, call)?;
    device.read(&y, arguments.y)?;
    sum.fetch(device)?;
    mean.fetch(device)?;
    rstd.fetch(device)?;
    scales.fetch(device)
}

/// As [`Device::backward`], with arguments in host memory.
///
/// # Errors
/// Those of [`Device::upload`], [`Device::backward_with`] and [`Device::read`].
pub fn backward(device: &Device, problem: &Problem, arguments: Backward<'_>) -> Result<()> {
    if device.backend() == Backend::Cpu {
        return device.backward(problem, arguments);
    }
    let input = |view: Option<View<'_>>| view.map(|view| device.upload(view)).transpose();
    let (dy, x) = (input(arguments.dy)?, device.upload(arguments.x)?);
    let dsum = match arguments.dsum {
        Some(Dsum::Apart(view)) => Some(device.upload(view)?),
        Some(Dsum::InDx) | None => None,
    };
    let (alpha, shift, gamma) = (input(arguments.alpha)?, input(arguments.shift)?, input(arguments.gamma)?);
    let (mean, rstd) = (input(arguments.mean)?, input(arguments.rstd)?);
    let mut outputs = [arguments.dx, arguments.dalpha, arguments.dshift, arguments.dgamma, arguments.dbeta]
        .into_iter()
        .map(|view| Output::new(device, view))
        .collect::<Result<Vec<_>>>()?;
    // dy only stands for the field that in-place calls leave open.
    let mut call = Backward::of(&x).dy(&x);
    call.dy = dy.as_ref().map(Into::into);
    call.dsum = match &dsum {
        Some(buffer) => Some(Dsum::Apart(buffer.into())),
        None => arguments.dsum,
    };
    call.alpha = alpha.as_ref().map(Into::into);
    call.shift = shift.as_ref().map(Into::into);
    call.gamma = gamma.as_ref().map(Into::into);
    call.mean = mean.as_ref().map(Into::into);
    call.rstd = rstd.as_ref().map(Into::into);
    let [dx, dalpha, dshift, dgamma, dbeta] = outputs.as_mut_slice() else { return Ok(()) };
    call.dx = dx.view();
    call.dalpha = dalpha.view();
    call.dshift = dshift.view();
    call.dgamma = dgamma.view();
    call.dbeta = dbeta.view();
    let bytes = device.workspace_bytes(problem, Pass::Backward);
    let mut workspace = device.zeros(DType::F32, bytes.div_ceil(DType::F32.size()))?;
    device.backward_with(problem, call, &mut workspace)?;
    outputs.into_iter().try_for_each(|output| output.fetch(device))
}

/// An output that the device writes and the host wants, if it is asked for.
struct Output<'a>(Option<(Buffer, ViewMut<'a>)>);

impl<'a> Output<'a> {
    /// With what the host has there: it may be added to, and gaps are kept.
    fn new(device: &Device, target: Option<ViewMut<'a>>) -> Result<Self> {
        let upload = |target: ViewMut<'a>| Ok((device.upload(target.as_view())?, target));
        target.map(upload).transpose().map(Self)
    }
    fn view(&mut self) -> Option<ViewMut<'_>> {
        self.0.as_mut().map(|(buffer, _)| buffer.into())
    }
    fn fetch(self, device: &Device) -> Result<()> {
        self.0.map_or(Ok(()), |(buffer, target)| device.read(&buffer, target))
    }
}
