//! A call whose arguments are places in one block of memory, so that they can be moved, cut and laid over each other.

use core::ops::Range;
use core::ptr::NonNull;
use std::collections::HashMap;

use dyt::{Argument, Backward, DType, Device, Error, Forward, Op, Pass, Problem, Result, View, ViewMut};

/// Bytes from the begin of one argument to that of the next: more than any test's argument has.
const STEP: usize = 8192;
/// What the memory holds before a call: as f32, f16 and bf16 an ordinary number.
const CANARY: u8 = 0x3e;

/// Every argument, in the order in which a call's memory is laid out.
pub(crate) const ARGUMENTS: [Argument; 15] = [
    Argument::X,
    Argument::Alpha,
    Argument::Shift,
    Argument::Gamma,
    Argument::Beta,
    Argument::Y,
    Argument::Mean,
    Argument::Rstd,
    Argument::Dy,
    Argument::Dx,
    Argument::Dalpha,
    Argument::Dshift,
    Argument::Dgamma,
    Argument::Dbeta,
    Argument::Workspace,
];

/// A place in the memory of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Bytes from the begin of the memory.
    pub(crate) at: usize,
    /// Elements.
    pub(crate) len: usize,
    pub(crate) dtype: DType,
}

impl Place {
    pub(crate) const fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }
}

/// Whether the op has the argument in this pass.
pub(crate) fn takes(op: Op, pass: Pass, argument: Argument) -> bool {
    let backward = pass == Pass::Backward;
    match argument {
        Argument::X | Argument::Gamma => true,
        Argument::Alpha => op.is_pointwise(),
        Argument::Shift => op.has_shift(),
        Argument::Mean => op.has_mean(),
        Argument::Rstd => !op.is_pointwise(),
        Argument::Beta | Argument::Y => !backward,
        Argument::Dalpha => backward && op.is_pointwise(),
        Argument::Dshift => backward && op.has_shift(),
        _ => backward,
    }
}

/// The arguments that a pass writes, in the order in which they are compared.
pub(crate) fn outputs(pass: Pass) -> &'static [Argument] {
    match pass {
        Pass::Forward => &[Argument::Y, Argument::Mean, Argument::Rstd],
        Pass::Backward => &[
            Argument::Dx,
            Argument::Dalpha,
            Argument::Dshift,
            Argument::Dgamma,
            Argument::Dbeta,
            Argument::Workspace,
        ],
    }
}

/// A call with every argument that its op has.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) problem: Problem,
    pub(crate) pass: Pass,
    pub(crate) places: HashMap<Argument, Place>,
    memory: Vec<u64>,
}

impl Call {
    pub(crate) fn new(problem: Problem, pass: Pass) -> Self {
        let memory = vec![u64::from_ne_bytes([CANARY; 8]); (ARGUMENTS.len() + 2) * STEP / 8];
        let mut call = Self { problem, pass, places: HashMap::new(), memory };
        for argument in ARGUMENTS {
            if takes(problem.op(), pass, argument) {
                call.add(argument);
            }
        }
        call
    }

    /// Gives the call an argument of the right dtype and length, apart from all others.
    pub(crate) fn add(&mut self, argument: Argument) {
        let problem = &self.problem;
        let workspace = || {
            let device = Device::cpu(dyt::Level::Portable).expect("every processor has it");
            device.workspace_bytes(problem, Pass::Backward) / 4
        };
        let (len, dtype) = match argument {
            Argument::X | Argument::Y | Argument::Dy | Argument::Dx => (problem.span(), problem.dtype()),
            Argument::Gamma | Argument::Beta => (problem.cols(), problem.param_dtype()),
            Argument::Dgamma | Argument::Dbeta => (problem.cols(), DType::F32),
            Argument::Mean | Argument::Rstd => (problem.statistics(), DType::F32),
            Argument::Workspace => (workspace(), DType::F32),
            _ => (1, DType::F32),
        };
        let index = ARGUMENTS.iter().position(|other| *other == argument).expect("the list is complete");
        let place = Place { at: (index + 1) * STEP, len, dtype };
        assert!(place.bytes() + 64 <= STEP, "{argument} would reach into the next argument");
        self.places.insert(argument, place);
    }

    pub(crate) fn without(mut self, argument: Argument) -> Self {
        self.places.remove(&argument);
        self
    }

    pub(crate) fn with(mut self, argument: Argument, change: impl FnOnce(&mut Place)) -> Self {
        change(self.places.get_mut(&argument).expect("the call has the argument"));
        self
    }

    /// Moves `argument` to `offset` bytes behind the begin of `other`.
    pub(crate) fn onto(self, argument: Argument, other: Argument, offset: isize) -> Self {
        let at = self.places[&other].at.checked_add_signed(offset).expect("within the memory");
        self.with(argument, |place| place.at = at)
    }

    pub(crate) fn bytes(&self, argument: Argument) -> &[u8] {
        let place = self.places[&argument];
        &self.all()[place.at..place.at + place.bytes()]
    }

    fn all(&self) -> &[u8] {
        // SAFETY: the bytes of initialised integers.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast(), self.memory.len() * 8) }
    }

    /// Runs the call.
    pub(crate) fn run(&mut self, device: &Device) -> Result<()> {
        let base = NonNull::from(self.memory.as_mut_slice()).cast::<u8>();
        let size = self.memory.len() * 8;
        let locate = |place: &Place| {
            assert!(place.at + place.bytes() <= size, "{place:?} is within the memory");
            // SAFETY: as just asserted.
            unsafe { base.add(place.at) }
        };
        let read = |argument| {
            let place = self.places.get(&argument)?;
            // SAFETY: the place lies in the memory, which nobody else uses during the call. Where it is not aligned or
            // lies over another, the call has to refuse before it reads or writes, and that is what is tested.
            Some(unsafe { View::from_raw_parts(locate(place), place.len, place.dtype) })
        };
        let write = |argument| {
            let place = self.places.get(&argument)?;
            // SAFETY: as above.
            Some(unsafe { ViewMut::from_raw_parts(locate(place), place.len, place.dtype) })
        };
        match self.pass {
            Pass::Forward => {
                let mut arguments = Forward::in_place(write(Argument::Y).expect("y cannot be absent"));
                arguments.x = read(Argument::X);
                arguments.alpha = read(Argument::Alpha);
                arguments.shift = read(Argument::Shift);
                arguments.gamma = read(Argument::Gamma);
                arguments.beta = read(Argument::Beta);
                arguments.mean = write(Argument::Mean);
                arguments.rstd = write(Argument::Rstd);
                device.forward(&self.problem, arguments)
            }
            Pass::Backward => {
                let x = read(Argument::X).expect("x cannot be absent");
                let mut arguments = Backward::of(x).dy(x);
                arguments.dy = read(Argument::Dy);
                arguments.alpha = read(Argument::Alpha);
                arguments.shift = read(Argument::Shift);
                arguments.gamma = read(Argument::Gamma);
                arguments.mean = read(Argument::Mean);
                arguments.rstd = read(Argument::Rstd);
                arguments.dx = write(Argument::Dx);
                arguments.dalpha = write(Argument::Dalpha);
                arguments.dshift = write(Argument::Dshift);
                arguments.dgamma = write(Argument::Dgamma);
                arguments.dbeta = write(Argument::Dbeta);
                let workspace = write(Argument::Workspace).expect("it cannot be absent");
                device.backward_with(&self.problem, arguments, workspace)
            }
        }
    }

    /// The error with which every device refuses the call; not a byte may have been written.
    #[track_caller]
    pub(crate) fn refusal(&self) -> Error {
        let errors: Vec<Error> = super::devices()
            .iter()
            .map(|device| {
                let mut call = self.clone();
                let error = call.run(device).expect_err("the call is wrong");
                assert!(call.all().iter().all(|byte| *byte == CANARY), "{error}: and something was written");
                error
            })
            .collect();
        assert!(errors.windows(2).all(|pair| pair[0] == pair[1]), "the same on every device: {errors:?}");
        errors.into_iter().next().expect("there is a device")
    }

    /// The bytes that an output may write: those of a tensor without the gaps between its rows.
    fn written(&self, output: Argument) -> Vec<Range<usize>> {
        let Some(place) = self.places.get(&output) else { return Vec::new() };
        if !matches!(output, Argument::Y | Argument::Dx) {
            return core::iter::once(place.at..place.at + place.bytes()).collect();
        }
        let (problem, size) = (&self.problem, place.dtype.size());
        let row = |row| {
            let begin = place.at + row * problem.row_stride() * size;
            begin..begin + problem.row_len() * size
        };
        (0..problem.rows()).map(row).collect()
    }

    /// Runs the call on every device: it is allowed, and writes to its outputs alone.
    #[track_caller]
    pub(crate) fn accepted(&self) -> Vec<Self> {
        let run = |device: &Device| {
            let mut call = self.clone();
            call.run(device).expect("the call is allowed");
            let mut expected = self.all().to_vec();
            for range in outputs(self.pass).iter().flat_map(|output| call.written(*output)) {
                expected[range.clone()].copy_from_slice(&call.all()[range]);
            }
            assert_eq!(expected, call.all(), "nothing but the outputs was written");
            call
        };
        super::devices().iter().map(run).collect()
    }
}
