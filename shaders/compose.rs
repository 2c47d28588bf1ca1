//! Kernels and the pieces of WGSL that each is composed of.

mod pieces;

use crate::{DType, Pass};

/// Rows of a lane of the forward of DyT and Derf whose loads are under way before the first is needed, if it has as many.
/// With fewer the kernel goes row by row: a driver that masks lanes instead of branching would compute all of them.
pub(crate) const AHEAD: u32 = 4;

/// How a norm goes over rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Rows that the registers of a team of lanes keep.
    Kept,
    /// Rows that are read again.
    Long,
    /// Channels-first data.
    First,
}

impl Form {
    const ALL: [Self; 3] = [Self::Kept, Self::Long, Self::First];
}

/// Blocks of a row that a lane keeps in registers, or loads at once.
pub(crate) const fn kept(form: Form, pass: Pass, dtype: DType) -> u32 {
    match (form, pass, dtype) {
        // Each column of a backward has two sums beside its two values.
        (Form::Kept, Pass::Backward, DType::F16 | DType::Bf16) => 2,
        (Form::Kept, Pass::Backward, DType::F32 | DType::Quant(_)) | (Form::Kept, Pass::Forward, _) => 4,
        (Form::Long | Form::First, _, _) => 4,
    }
}

/// Whether a word has two elements.
const fn narrow(dtype: DType) -> bool {
    match dtype {
        // Data has no type of a quantised y.
        DType::F32 | DType::Quant(_) => false,
        DType::F16 | DType::Bf16 => true,
    }
}

/// The f of a pointwise op, y = gamma · f(u) + beta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    /// tanh(alpha · x).
    Dyt,
    /// erf(alpha · x + shift).
    Derf,
}

impl Curve {
    const ALL: [Self; 2] = [Self::Dyt, Self::Derf];
}

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    /// DyT or Derf. A lane of a forward may have several rows, and then loads `AHEAD` of them at once.
    Pointwise { curve: Curve, pass: Pass, ahead: bool },
    /// LayerNorm, which has a center, or RMSNorm; sums over lanes by subgroups or by workgroup memory.
    Norm { center: bool, pass: Pass, form: Form, subgroups: bool },
    /// The forward of an op that quantises y, by rows or channels-first, always by elements.
    Quantised { op: Quantised, first: bool },
    /// The second stage of every backward.
    Fold,
}

/// The ops that quantise y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Quantised {
    Pointwise(Curve),
    Norm { center: bool },
}

impl Quantised {
    const ALL: [Self; 4] = [
        Self::Pointwise(Curve::Dyt),
        Self::Pointwise(Curve::Derf),
        Self::Norm { center: false },
        Self::Norm { center: true },
    ];
}

impl Body {
    pub(crate) const fn pass(self) -> Pass {
        match self {
            Self::Pointwise { pass, .. } | Self::Norm { pass, .. } => pass,
            Self::Quantised { .. } => Pass::Forward,
            Self::Fold => Pass::Backward,
        }
    }

    fn all() -> Vec<Self> {
        let both: &[bool] = &[false, true];
        let mut all = vec![Self::Fold];
        all.extend(
            Quantised::ALL
                .into_iter()
                .flat_map(|op| both.iter().map(move |&first| Self::Quantised { op, first })),
        );
        for pass in Pass::ALL {
            let depths = match pass {
                Pass::Forward => both,
                Pass::Backward => &[false],
            };
            for &ahead in depths {
                all.extend(Curve::ALL.map(|curve| Self::Pointwise { curve, pass, ahead }));
            }
            for form in Form::ALL {
                let ways = match form {
                    Form::Kept | Form::Long => both,
                    // A line of channels-first data has no subgroup of its own.
                    Form::First => &[false],
                };
                for &subgroups in ways {
                    let norm = |center| Self::Norm { center, pass, form, subgroups };
                    all.extend([false, true].map(norm));
                }
            }
        }
        all
    }
}

/// A kernel in one of its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub(crate) body: Body,
    /// How the elements of x, y, dy and dx are stored.
    pub(crate) dtype: DType,
    /// Whether tensors are read and written by 16 bytes, or by elements.
    pub(crate) wide: bool,
    /// Whether the output holds what is read as x, or in a backward as dy.
    pub(crate) in_place: bool,
    /// Whether every binding is read-write, because an output lies in the same buffer as an input. Calls with a residual or
    /// a dsum take these variants, too: in them alone stands the code for it, under a flag.
    pub(crate) shared: bool,
}

/// What a binding is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    /// What the op reads: of a call with a residual the sum.
    X,
    /// The x of a call with a residual.
    Addend,
    Residual,
    Dsum,
    Dy,
    /// y or dx.
    Out,
    Gamma,
    Beta,
    Alpha,
    Shift,
    Mean,
    Rstd,
    /// The scale of a quantised y, or those of its rows.
    Scale,
    /// The partial sums.
    Sums,
    Dgamma,
    Dbeta,
    Dalpha,
    Dshift,
}

impl Slot {
    /// The name of the variable in WGSL.
    const fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Addend => "addend",
            Self::Residual => "residual",
            Self::Dsum => "dsum",
            Self::Dy => "dy",
            Self::Out => "out",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::Alpha => "alpha",
            Self::Shift => "shift",
            Self::Mean => "mean",
            Self::Rstd => "rstd",
            Self::Scale => "scale",
            Self::Sums => "sums",
            Self::Dgamma => "dgamma",
            Self::Dbeta => "dbeta",
            Self::Dalpha => "dalpha",
            Self::Dshift => "dshift",
        }
    }
}

/// A storage buffer of a kernel; the first is binding 1, and binding 0 has the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) slot: Slot,
    /// Whether the kernel writes it.
    pub(crate) written: bool,
}

const fn read(slot: Slot) -> Declared {
    Declared { slot, written: false }
}

const fn written(slot: Slot) -> Declared {
    Declared { slot, written: true }
}

impl Kernel {
    /// Every kernel.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for body in Body::all() {
            for dtype in DType::ALL {
                for options in 0..8 {
                    let [wide, in_place, shared] = [1, 2, 4].map(|bit| options & bit != 0);
                    let kernel = Self { body, dtype, wide, in_place, shared };
                    if kernel == kernel.normalized() {
                        all.push(kernel);
                    }
                }
            }
        }
        all
    }

    /// Whether a device with or without subgroup operations can be asked for it.
    pub(crate) const fn occurs(self, has_subgroups: bool) -> bool {
        match self.body {
            Body::Norm { subgroups: true, .. } => has_subgroups,
            // Rows of a whole workgroup take subgroups where there are some.
            Body::Norm { form: Form::Long, subgroups: false, .. } => !has_subgroups,
            Body::Norm { .. } | Body::Pointwise { .. } | Body::Quantised { .. } | Body::Fold => true,
        }
    }

    /// The same kernel without differences that make none.
    pub(crate) fn normalized(self) -> Self {
        match self.body {
            Body::Fold => Self { dtype: DType::F32, wide: false, in_place: false, ..self },
            Body::Norm { form: Form::First, .. } => Self { wide: false, ..self },
            // Any of its buffers may be one with another.
            Body::Quantised { .. } => Self { wide: false, in_place: false, shared: true, ..self },
            Body::Norm { .. } | Body::Pointwise { .. } => self,
        }
    }

    /// Whether it writes the sum of x and a residual, if a flag says so.
    const fn sums(self) -> bool {
        match self.body {
            Body::Pointwise { pass: Pass::Forward, .. } | Body::Norm { pass: Pass::Forward, .. } => {
                self.shared && !self.in_place
            }
            Body::Pointwise { .. } | Body::Norm { .. } | Body::Quantised { .. } | Body::Fold => false,
        }
    }

    /// Whether it adds dsum to dx, if a flag says so.
    const fn takes_dsum(self) -> bool {
        match self.body {
            Body::Pointwise { pass: Pass::Backward, .. } | Body::Norm { pass: Pass::Backward, .. } => {
                self.shared
            }
            Body::Pointwise { .. } | Body::Norm { .. } | Body::Quantised { .. } | Body::Fold => false,
        }
    }

    /// Its storage buffers, at most eight.
    pub(crate) fn declared(self) -> Vec<Declared> {
        use Slot::{Addend, Alpha, Beta, Dalpha, Dbeta, Dgamma, Dshift, Dsum, Dy, Gamma, Mean};
        use Slot::{Out, Residual, Rstd, Scale, Shift, Sums, X};
        let mut list = match self.body {
            Body::Pointwise { pass: Pass::Forward, .. } => {
                vec![read(X), written(Out), read(Gamma), read(Beta), read(Alpha), read(Shift)]
            }
            Body::Pointwise { pass: Pass::Backward, .. } => {
                vec![read(Dy), read(X), written(Out), read(Gamma), read(Alpha), read(Shift), written(Sums)]
            }
            Body::Norm { pass: Pass::Forward, .. } => {
                vec![read(X), written(Out), read(Gamma), read(Beta), written(Mean), written(Rstd)]
            }
            Body::Norm { pass: Pass::Backward, .. } => {
                vec![read(Dy), read(X), written(Out), read(Gamma), read(Mean), read(Rstd), written(Sums)]
            }
            Body::Quantised { op: Quantised::Pointwise(_), .. } => {
                vec![read(X), written(Out), read(Gamma), read(Beta), read(Alpha), read(Shift), written(Scale)]
            }
            Body::Quantised { op: Quantised::Norm { .. }, .. } => {
                vec![
                    read(X),
                    written(Out),
                    read(Gamma),
                    read(Beta),
                    written(Mean),
                    written(Rstd),
                    written(Scale),
                ]
            }
            Body::Fold => {
                vec![read(Sums), written(Dgamma), written(Dbeta), written(Dalpha), written(Dshift)]
            }
        };
        let replaced = match self.body.pass() {
            Pass::Forward => X,
            Pass::Backward => Dy,
        };
        list.retain(|declared| !(self.in_place && declared.slot == replaced));
        if self.sums() {
            list.extend([read(Addend), read(Residual)]);
        }
        if self.takes_dsum() {
            list.push(read(Dsum));
        }
        list
    }

    fn element(self, slot: Slot) -> &'static str {
        match slot {
            Slot::X | Slot::Addend | Slot::Residual | Slot::Dsum | Slot::Dy | Slot::Out if self.wide => {
                "vec4<u32>"
            }
            Slot::Out if narrow(self.dtype) || matches!(self.body, Body::Quantised { .. }) => "atomic<u32>",
            Slot::X if narrow(self.dtype) && self.sums() => "atomic<u32>",
            Slot::X | Slot::Addend | Slot::Residual | Slot::Dsum | Slot::Dy | Slot::Out => "u32",
            Slot::Gamma | Slot::Beta => "u32",
            Slot::Alpha | Slot::Shift | Slot::Mean | Slot::Rstd | Slot::Scale | Slot::Sums => "f32",
            Slot::Dgamma | Slot::Dbeta | Slot::Dalpha | Slot::Dshift => "f32",
        }
    }

    /// The declarations: all that is no piece.
    fn declarations(self) -> String {
        let mut text = String::new();
        text.push_str("@group(0) @binding(0) var<uniform> params: Params;\n");
        for (i, Declared { slot, written }) in self.declared().into_iter().enumerate() {
            let access = if written || self.shared { "read_write" } else { "read" };
            let (binding, name, element) = (i + 1, slot.name(), self.element(slot));
            text.push_str(&format!(
                "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;\n"
            ));
        }
        match self.body {
            Body::Norm { center, pass, form, .. } => {
                let count = kept(form, pass, self.dtype);
                text.push_str(&format!("const CENTER = {center};\nconst COUNT: u32 = {count}u;\n"));
            }
            Body::Pointwise { pass: Pass::Forward, ahead, .. } => {
                text.push_str(&format!("const AHEAD: u32 = {}u;\n", if ahead { AHEAD } else { 1 }));
            }
            Body::Quantised { op: Quantised::Norm { center }, first } => {
                let form = if first { Form::First } else { Form::Long };
                let count = kept(form, Pass::Forward, self.dtype);
                text.push_str(&format!("const CENTER = {center};\nconst COUNT: u32 = {count}u;\n"));
            }
            Body::Quantised { op: Quantised::Pointwise(_), .. } => {}
            Body::Pointwise { pass: Pass::Backward, .. } | Body::Fold => {}
        }
        text
    }

    /// Whether lanes have 16 bytes of a row at once. Norms do wherever rows begin, and read and write them by elements
    /// where they have to, so that the order of their sums is the same.
    pub(crate) const fn has_blocks(self) -> bool {
        match self.body {
            Body::Norm { form: Form::Kept | Form::Long, .. } => true,
            Body::Norm { form: Form::First, .. } | Body::Pointwise { .. } | Body::Fold => self.wide,
            Body::Quantised { first, .. } => !first,
        }
    }

    /// The kernel in WGSL.
    pub(crate) fn source(self) -> String {
        let mut source = self.declarations();
        for (_, text) in self.pieces() {
            source.push_str(text);
        }
        source
    }

    /// The file and the line in it that a line of the source, counted from 1, comes from.
    #[cfg(test)]
    pub(crate) fn origin(self, line: usize) -> (&'static str, usize) {
        let mut rest = line.saturating_sub(self.declarations().lines().count());
        if rest == 0 {
            return ("compose.rs", line);
        }
        let pieces = self.pieces();
        for (file, text) in &pieces {
            let lines = text.lines().count();
            if rest <= lines {
                return (*file, rest);
            }
            rest -= lines;
        }
        (pieces.last().map_or("compose.rs", |piece| piece.0), rest)
    }
}
