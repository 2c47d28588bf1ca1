//! Kernels and the pieces of WGSL that each is composed of. Both `build.rs`, which validates every one, and the crate,
//! which hands them to wgpu, include this file: it uses std alone.

/// How the elements of x, y, dy and dx are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    F32,
    F16,
    Bf16,
}

impl Storage {
    const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];
}

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

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    /// DyT, or Derf. A lane of a forward may have several rows, and then loads `AHEAD` of them at once.
    Pointwise { derf: bool, backward: bool, ahead: bool },
    /// LayerNorm, which has a center, or RMSNorm; sums over lanes by subgroups or by workgroup memory.
    Norm { center: bool, backward: bool, form: Form, subgroups: bool },
    /// The second stage of every backward.
    Fold,
}

impl Body {
    pub(crate) const fn is_backward(self) -> bool {
        match self {
            Self::Pointwise { backward, .. } | Self::Norm { backward, .. } => backward,
            Self::Fold => true,
        }
    }

    fn all() -> Vec<Self> {
        let both = [false, true];
        let mut all = vec![Self::Fold];
        for backward in both {
            let depths = if backward { &both[..1] } else { &both[..] };
            for &ahead in depths {
                all.extend(both.map(|derf| Self::Pointwise { derf, backward, ahead }));
            }
            for center in both {
                for form in Form::ALL {
                    // A line of channels-first data has no subgroup of its own.
                    let paths = if form == Form::First { &both[..1] } else { &both[..] };
                    all.extend(paths.iter().map(|&subgroups| Self::Norm {
                        center,
                        backward,
                        form,
                        subgroups,
                    }));
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
    pub(crate) storage: Storage,
    /// Whether tensors are read and written by 16 bytes, or by elements.
    pub(crate) wide: bool,
    /// Whether the output holds what is read as x, or in a backward as dy.
    pub(crate) in_place: bool,
    /// Whether every binding is read-write, because an output lies in the same buffer as an input.
    pub(crate) shared: bool,
}

/// What a binding is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    X,
    Dy,
    /// y or dx.
    Out,
    Gamma,
    Beta,
    Alpha,
    Shift,
    Mean,
    Rstd,
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
            Self::Dy => "dy",
            Self::Out => "out",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::Alpha => "alpha",
            Self::Shift => "shift",
            Self::Mean => "mean",
            Self::Rstd => "rstd",
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

/// A piece of a kernel: the file below `shaders/`, and its text.
pub(crate) type Piece = (&'static str, &'static str);

macro_rules! piece {
    ($name:literal) => {
        ($name, include_str!($name))
    };
}

impl Kernel {
    /// Every kernel.
    #[allow(dead_code, reason = "the build validates all; the crate makes those that it needs")]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for body in Body::all() {
            for storage in Storage::ALL {
                for options in 0..8 {
                    let [wide, in_place, shared] = [1, 2, 4].map(|bit| options & bit != 0);
                    let kernel = Self { body, storage, wide, in_place, shared };
                    if kernel == kernel.normalized() {
                        all.push(kernel);
                    }
                }
            }
        }
        all
    }

    /// The same kernel without differences that make none.
    pub(crate) fn normalized(self) -> Self {
        match self.body {
            Body::Fold => Self { storage: Storage::F32, wide: false, in_place: false, ..self },
            Body::Norm { form: Form::First, .. } => Self { wide: false, ..self },
            Body::Norm { .. } | Body::Pointwise { .. } => self,
        }
    }

    /// Its storage buffers.
    pub(crate) fn declared(self) -> Vec<Declared> {
        use Slot::{Alpha, Beta, Dalpha, Dbeta, Dgamma, Dshift, Dy, Gamma, Mean, Out, Rstd, Shift, Sums, X};
        let mut list = match self.body {
            Body::Pointwise { backward: false, .. } => {
                vec![read(X), written(Out), read(Gamma), read(Beta), read(Alpha), read(Shift)]
            }
            Body::Pointwise { backward: true, .. } => {
                vec![read(Dy), read(X), written(Out), read(Gamma), read(Alpha), read(Shift), written(Sums)]
            }
            Body::Norm { backward: false, .. } => {
                vec![read(X), written(Out), read(Gamma), read(Beta), written(Mean), written(Rstd)]
            }
            Body::Norm { backward: true, .. } => {
                vec![read(Dy), read(X), written(Out), read(Gamma), read(Mean), read(Rstd), written(Sums)]
            }
            Body::Fold => {
                vec![read(Sums), written(Dgamma), written(Dbeta), written(Dalpha), written(Dshift)]
            }
        };
        let replaced = if self.body.is_backward() { Dy } else { X };
        list.retain(|declared| !(self.in_place && declared.slot == replaced));
        list
    }

    fn element(self, slot: Slot) -> &'static str {
        match slot {
            Slot::X | Slot::Dy | Slot::Out if self.wide => "vec4<u32>",
            Slot::Out if self.storage != Storage::F32 => "atomic<u32>",
            Slot::X | Slot::Dy | Slot::Out | Slot::Gamma | Slot::Beta => "u32",
            _ => "f32",
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
            Body::Norm { center, .. } => {
                text.push_str(&format!("const CENTER = {center};\nconst COUNT: u32 = {}u;\n", self.kept()));
            }
            Body::Pointwise { backward: false, ahead, .. } => {
                text.push_str(&format!("const AHEAD: u32 = {}u;\n", if ahead { AHEAD } else { 1 }));
            }
            Body::Pointwise { .. } | Body::Fold => {}
        }
        text
    }

    /// Blocks of a row that a lane keeps in registers, or loads at once.
    pub(crate) const fn kept(self) -> u32 {
        match (self.body, self.storage) {
            // Each column of a backward has two sums beside its two values.
            (Body::Norm { backward: true, form: Form::Kept, .. }, Storage::F16 | Storage::Bf16) => 2,
            _ => 4,
        }
    }

    const fn subgroups(self) -> bool {
        matches!(self.body, Body::Norm { subgroups: true, .. })
    }

    /// The pieces behind the declarations.
    pub(crate) fn pieces(self) -> Vec<Piece> {
        let mut pieces = vec![piece!("lib/params.wgsl")];
        match self.body {
            Body::Fold => pieces.extend([piece!("lib/cascade.wgsl"), piece!("fold.wgsl")]),
            Body::Pointwise { derf, backward, .. } => {
                pieces.extend(self.access());
                pieces.push(piece!("lib/math.wgsl"));
                pieces.push(if derf { piece!("derf.wgsl") } else { piece!("dyt.wgsl") });
                pieces.push(match backward {
                    false => piece!("pointwise_forward.wgsl"),
                    true => piece!("pointwise_backward.wgsl"),
                });
            }
            Body::Norm { backward, form, subgroups, .. } => {
                pieces.extend(self.access());
                if self.has_blocks() {
                    pieces.extend(self.rows());
                }
                pieces.push(match subgroups {
                    false => piece!("lib/reduce.wgsl"),
                    true => piece!("lib/reduce_subgroup.wgsl"),
                });
                pieces.push(piece!("lib/statistics.wgsl"));
                pieces.push(match backward {
                    false => piece!("lib/norm_output.wgsl"),
                    true => piece!("lib/norm_terms.wgsl"),
                });
                pieces.extend(norm(backward, form));
            }
        }
        pieces.push(if self.subgroups() { piece!("entry_subgroup.wgsl") } else { piece!("entry.wgsl") });
        pieces
    }

    /// Whether lanes have 16 bytes of a row at once. Norms do wherever rows begin, and read and write them by elements
    /// where they have to, so that the order of their sums is the same.
    pub(crate) const fn has_blocks(self) -> bool {
        self.wide || matches!(self.body, Body::Norm { form: Form::Kept | Form::Long, .. })
    }

    /// Reading and writing the blocks of a row.
    fn rows(self) -> Vec<Piece> {
        let mut pieces = if self.wide {
            vec![piece!("lib/row_vector.wgsl")]
        } else if self.storage == Storage::F32 {
            vec![piece!("lib/row_element.wgsl"), piece!("lib/row_element_f32.wgsl")]
        } else {
            vec![piece!("lib/row_element.wgsl"), piece!("lib/row_element_16.wgsl")]
        };
        if self.body.is_backward() {
            pieces.push(match self.wide {
                true => piece!("lib/row_vector_dy.wgsl"),
                false => piece!("lib/row_element_dy.wgsl"),
            });
        }
        pieces
    }

    /// Reading and writing elements.
    fn access(self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let narrow = self.storage != Storage::F32;
        match self.storage {
            Storage::F32 => {}
            Storage::F16 => pieces.push(piece!("lib/f16.wgsl")),
            Storage::Bf16 => pieces.push(piece!("lib/bf16.wgsl")),
        }
        pieces.push(match (self.has_blocks(), narrow) {
            (true, false) => piece!("lib/block_f32.wgsl"),
            (true, true) => piece!("lib/block_16.wgsl"),
            (false, false) => piece!("lib/single_f32.wgsl"),
            (false, true) => piece!("lib/single_16.wgsl"),
        });
        pieces.push(match (self.wide, narrow) {
            (true, _) => piece!("lib/vector.wgsl"),
            (false, false) => piece!("lib/element_f32.wgsl"),
            (false, true) => piece!("lib/element_16.wgsl"),
        });
        let backward = self.body.is_backward();
        pieces.push(match self.in_place && !backward {
            false => piece!("lib/read_x.wgsl"),
            true => piece!("lib/read_x_in_place.wgsl"),
        });
        pieces.push(if narrow { piece!("lib/gamma_16.wgsl") } else { piece!("lib/gamma_f32.wgsl") });
        pieces.push(piece!("lib/gamma.wgsl"));
        if backward {
            pieces.push(match self.in_place {
                false => piece!("lib/read_dy.wgsl"),
                true => piece!("lib/read_dy_in_place.wgsl"),
            });
        } else {
            pieces.push(if narrow { piece!("lib/beta_16.wgsl") } else { piece!("lib/beta_f32.wgsl") });
            pieces.push(piece!("lib/beta.wgsl"));
        }
        pieces
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
    #[allow(dead_code, reason = "the build reports mistakes; the crate has none left")]
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

fn norm(backward: bool, form: Form) -> Vec<Piece> {
    match (form, backward) {
        (Form::Kept, false) => vec![piece!("norm_forward.wgsl")],
        (Form::Kept, true) => vec![piece!("norm_backward.wgsl")],
        (Form::Long, false) => {
            vec![piece!("lib/cascade.wgsl"), piece!("lib/norm_long.wgsl"), piece!("norm_forward_long.wgsl")]
        }
        (Form::Long, true) => {
            vec![piece!("lib/cascade.wgsl"), piece!("lib/norm_long.wgsl"), piece!("norm_backward_long.wgsl")]
        }
        (Form::First, false) => {
            vec![piece!("lib/cascade.wgsl"), piece!("lib/norm_first.wgsl"), piece!("norm_forward_first.wgsl")]
        }
        (Form::First, true) => {
            vec![
                piece!("lib/cascade.wgsl"),
                piece!("lib/norm_first.wgsl"),
                piece!("norm_backward_first.wgsl"),
            ]
        }
    }
}
