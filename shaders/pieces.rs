//! Which files make up each kernel.

use super::{Body, Curve, Form, Kernel, Quantised};
use crate::{DType, Pass};

/// A piece of a kernel: the file below `shaders/`, and its text.
pub(crate) type Piece = (&'static str, &'static str);

macro_rules! piece {
    ($name:literal) => {
        ($name, include_str!($name))
    };
}

impl Kernel {
    /// The pieces behind the declarations.
    pub(crate) fn pieces(self) -> Vec<Piece> {
        let mut pieces = vec![piece!("lib/params.wgsl")];
        match self.body {
            Body::Fold => {
                pieces.extend([piece!("lib/cascade.wgsl"), piece!("fold.wgsl"), piece!("lib/no_sum.wgsl")]);
            }
            Body::Quantised { op, first } => {
                pieces.push(piece!("lib/place.wgsl"));
                pieces.extend(self.access());
                if self.has_blocks() {
                    pieces.extend(self.rows());
                }
                pieces.extend(quantised(op, first));
                pieces.push(piece!("lib/no_sum.wgsl"));
            }
            Body::Pointwise { curve, pass, .. } => {
                pieces.push(piece!("lib/place.wgsl"));
                pieces.extend(self.access());
                pieces.extend(f_of(curve));
                pieces.push(match pass {
                    Pass::Forward => piece!("pointwise_forward.wgsl"),
                    Pass::Backward => piece!("pointwise_backward.wgsl"),
                });
                pieces.push(self.preparation(piece!("lib/sum_pointwise.wgsl")));
            }
            Body::Norm { pass, form, subgroups, .. } => {
                pieces.push(piece!("lib/place.wgsl"));
                pieces.extend(self.access());
                if self.has_blocks() {
                    pieces.extend(self.rows());
                }
                pieces.push(match subgroups {
                    false => piece!("lib/reduce.wgsl"),
                    true => piece!("lib/reduce_subgroup.wgsl"),
                });
                pieces.push(piece!("lib/statistics.wgsl"));
                pieces.push(match pass {
                    Pass::Forward => piece!("lib/norm_output.wgsl"),
                    Pass::Backward => piece!("lib/norm_terms.wgsl"),
                });
                pieces.extend(norm(pass, form));
                match (pass, form) {
                    (Pass::Forward, Form::Long) => pieces.push(piece!("lib/long_write.wgsl")),
                    (Pass::Forward, Form::First) => pieces.push(piece!("lib/first_write.wgsl")),
                    (Pass::Forward, Form::Kept) | (Pass::Backward, _) => {}
                }
                pieces.push(self.preparation(match form {
                    Form::Kept | Form::Long => piece!("lib/sum_rows.wgsl"),
                    Form::First => piece!("lib/sum_first.wgsl"),
                }));
            }
        }
        pieces.push(match self.body {
            Body::Norm { subgroups: true, .. } => piece!("entry_subgroup.wgsl"),
            Body::Norm { subgroups: false, .. }
            | Body::Pointwise { .. }
            | Body::Quantised { .. }
            | Body::Fold => piece!("entry.wgsl"),
        });
        pieces
    }

    /// Whether y is of one byte an element, which has a way of its own to be written.
    const fn quantises(self) -> bool {
        matches!(self.body, Body::Quantised { .. })
    }

    /// What a workgroup does before anything else: `sum` if the kernel takes a residual.
    const fn preparation(self, sum: Piece) -> Piece {
        if self.sums() { sum } else { piece!("lib/no_sum.wgsl") }
    }

    /// Writing dx, by blocks of a row or by others.
    fn writing_dx(self) -> Vec<Piece> {
        let rows = match self.body {
            Body::Norm { form: Form::Kept | Form::Long, .. } => true,
            Body::Norm { form: Form::First, .. } | Body::Pointwise { .. } => false,
            Body::Quantised { .. } | Body::Fold => false,
        };
        match (self.takes_dsum(), rows, self.wide) {
            (false, true, _) => vec![piece!("lib/row_dx.wgsl")],
            (false, false, _) => vec![piece!("lib/block_dx.wgsl")],
            (true, false, _) => vec![piece!("lib/dsum.wgsl"), piece!("lib/block_dx_dsum.wgsl")],
            (true, true, wide) => {
                let row = if wide {
                    piece!("lib/row_vector_dsum.wgsl")
                } else {
                    piece!("lib/row_element_dsum.wgsl")
                };
                vec![piece!("lib/dsum.wgsl"), row, piece!("lib/row_dx_dsum.wgsl")]
            }
        }
    }

    /// Reading x.
    fn reading_x(self) -> Vec<Piece> {
        let by_layout = match (self.wide, super::narrow(self.dtype)) {
            (true, _) => piece!("lib/sum_vector.wgsl"),
            (false, false) => piece!("lib/sum_f32.wgsl"),
            (false, true) => piece!("lib/sum_16.wgsl"),
        };
        match (self.body.pass(), self.in_place) {
            (Pass::Forward, true) => vec![piece!("lib/read_x_in_place.wgsl")],
            (Pass::Forward, false) if self.sums() => vec![by_layout, piece!("lib/sum.wgsl")],
            (Pass::Forward, false) | (Pass::Backward, _) => vec![piece!("lib/read_x.wgsl")],
        }
    }

    /// Reading and writing the blocks of a row.
    fn rows(self) -> Vec<Piece> {
        let mut pieces = match (self.wide, self.dtype) {
            (true, _) => vec![piece!("lib/row_vector.wgsl")],
            (false, DType::F32 | DType::Quant(_)) => {
                vec![piece!("lib/row_element.wgsl"), piece!("lib/row_element_f32.wgsl")]
            }
            (false, DType::F16 | DType::Bf16) => {
                vec![piece!("lib/row_element.wgsl"), piece!("lib/row_element_16.wgsl")]
            }
        };
        if !self.wide && !self.quantises() {
            pieces.push(match super::narrow(self.dtype) {
                false => piece!("lib/row_out_f32.wgsl"),
                true => piece!("lib/row_out_16.wgsl"),
            });
        }
        match (self.body.pass(), self.wide) {
            (Pass::Forward, _) => {}
            (Pass::Backward, true) => pieces.push(piece!("lib/row_vector_dy.wgsl")),
            (Pass::Backward, false) => pieces.push(piece!("lib/row_element_dy.wgsl")),
        }
        pieces
    }

    /// Reading and writing elements.
    fn access(self) -> Vec<Piece> {
        let mut pieces = match self.dtype {
            // Data has no type of a quantised y.
            DType::F32 | DType::Quant(_) => Vec::new(),
            DType::F16 => vec![piece!("lib/f16.wgsl")],
            DType::Bf16 => vec![piece!("lib/bf16.wgsl")],
        };
        let narrow = super::narrow(self.dtype);
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
        if !self.wide && !self.quantises() {
            pieces.push(if narrow { piece!("lib/out_16.wgsl") } else { piece!("lib/out_f32.wgsl") });
            if !self.has_blocks() {
                pieces.push(piece!("lib/out_single.wgsl"));
            }
        }
        let pass = self.body.pass();
        pieces.extend(self.reading_x());
        pieces.push(if narrow { piece!("lib/gamma_16.wgsl") } else { piece!("lib/gamma_f32.wgsl") });
        pieces.push(piece!("lib/gamma.wgsl"));
        match pass {
            Pass::Forward => {
                pieces.push(if narrow { piece!("lib/beta_16.wgsl") } else { piece!("lib/beta_f32.wgsl") });
                pieces.push(piece!("lib/beta.wgsl"));
            }
            Pass::Backward => {
                pieces.push(match self.in_place {
                    false => piece!("lib/read_dy.wgsl"),
                    true => piece!("lib/read_dy_in_place.wgsl"),
                });
                pieces.extend(self.writing_dx());
            }
        }
        pieces
    }
}

/// f of a pointwise op.
fn f_of(curve: Curve) -> [Piece; 2] {
    let own = match curve {
        Curve::Dyt => piece!("dyt.wgsl"),
        Curve::Derf => piece!("derf.wgsl"),
    };
    [piece!("lib/math.wgsl"), own]
}

/// v of an op, and how it is quantised.
fn quantised(op: Quantised, first: bool) -> Vec<Piece> {
    let mut pieces = vec![piece!("lib/quant.wgsl")];
    match op {
        Quantised::Pointwise(curve) => {
            pieces.extend(f_of(curve));
            pieces.push(piece!("lib/quant_pointwise.wgsl"));
            pieces.extend(match first {
                false => vec![piece!("quant_rows.wgsl")],
                true => vec![piece!("lib/first.wgsl"), piece!("quant_first.wgsl")],
            });
        }
        Quantised::Norm { .. } => {
            let form = if first { Form::First } else { Form::Long };
            pieces.extend([piece!("lib/reduce.wgsl"), piece!("lib/statistics.wgsl")]);
            pieces.push(piece!("lib/norm_output.wgsl"));
            pieces.extend(norm(Pass::Forward, form));
        }
    }
    pieces.push(if first { piece!("lib/quant_first.wgsl") } else { piece!("lib/quant_rows.wgsl") });
    pieces
}

/// How a norm goes over rows.
fn norm(pass: Pass, form: Form) -> Vec<Piece> {
    let body = match (form, pass) {
        (Form::Kept, Pass::Forward) => piece!("norm_forward.wgsl"),
        (Form::Kept, Pass::Backward) => piece!("norm_backward.wgsl"),
        (Form::Long, Pass::Forward) => piece!("norm_forward_long.wgsl"),
        (Form::Long, Pass::Backward) => piece!("norm_backward_long.wgsl"),
        (Form::First, Pass::Forward) => piece!("norm_forward_first.wgsl"),
        (Form::First, Pass::Backward) => piece!("norm_backward_first.wgsl"),
    };
    // Rows whose squares overflow or underflow f32 are done again.
    let mut pieces = vec![piece!("lib/stray.wgsl")];
    pieces.extend(match form {
        Form::Kept => vec![piece!("lib/vote.wgsl"), piece!("lib/norm_kept.wgsl")],
        Form::Long => vec![piece!("lib/cascade.wgsl"), piece!("lib/norm_long.wgsl")],
        Form::First => {
            let ways = [piece!("lib/first.wgsl"), piece!("lib/norm_first.wgsl")];
            [vec![piece!("lib/cascade.wgsl"), piece!("lib/vote.wgsl")], ways.to_vec()].concat()
        }
    });
    pieces.push(body);
    pieces
}
