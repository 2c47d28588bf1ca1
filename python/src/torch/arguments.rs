//! The arguments that every op has: the schemas of `dyt/torch/_ops.py` begin or end alike.

use dyt::{DType, Op, Problem, ProblemBuilder, Std};

use super::layout::is_contiguous;
use super::operand::{Data, Dimensions, Reach, known};
use super::stack::Stack;
use super::tensor::{Failure, Tensor, contiguous_strides};

/// alpha, shift, weight and bias, as they came.
#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) alpha: Option<Tensor>,
    pub(super) shift: Option<Tensor>,
    pub(super) weight: Option<Tensor>,
    pub(super) bias: Option<Tensor>,
}

/// What is computed: `int dims, int form, float eps=0.0, int lead=0, float offset=0.0`, the last arguments of each op.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) dimensions: Dimensions,
    form: i64,
    eps: f64,
    offset: f64,
}

impl Options {
    /// Those that begin at that place.
    pub(super) fn at(stack: &Stack, first: usize) -> Self {
        Self {
            dimensions: Dimensions::new(stack.int(first), stack.int(first + 3)),
            form: stack.int(first + 1),
            eps: stack.float(first + 2),
            offset: stack.float(first + 4),
        }
    }

    /// The op, by the numbers of `dyt/torch/_ops.py`, and its form.
    ///
    /// # Errors
    /// No op has the number.
    fn op(self) -> Result<(Op, Std), Failure> {
        match self.form {
            0 => Ok((Op::LayerNorm, Std::Biased)),
            1 => Ok((Op::LayerNorm, Std::Unbiased)),
            2 => Ok((Op::RmsNorm, Std::Biased)),
            3 => Ok((Op::Dyt, Std::Biased)),
            4 => Ok((Op::Derf, Std::Biased)),
            form => Err(format!("dyt: form is {form}, expected 0 to 4")),
        }
    }
}

/// A call, checked: x, its parameters as the kernels take them, and the problem.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) data: Data,
    pub(super) alpha: Option<Tensor>,
    pub(super) shift: Option<Tensor>,
    pub(super) weight: Option<Tensor>,
    pub(super) bias: Option<Tensor>,
    problem: ProblemBuilder,
}

impl Call {
    /// # Errors
    /// An argument has another shape, dtype or device than it should, or is absent.
    pub(super) fn new(
        x: Tensor,
        parameters: Parameters,
        options: Options,
        reach: Reach,
    ) -> Result<Self, Failure> {
        let (op, std) = options.op()?;
        let data = Data::new(x, options.dimensions, reach)?;
        let scalar = |name: &str, tensor: Option<Tensor>, wanted: bool| match tensor {
            Some(tensor) => data.scalar(name, tensor).map(Some),
            None if wanted => Err(format!("dyt: {name} is no tensor")),
            None => Ok(None),
        };
        let alpha = scalar("alpha", parameters.alpha, op.is_pointwise())?;
        let shift = scalar("shift", parameters.shift, op.has_shift())?;
        let (param, weight, bias) = vectors(&data, parameters.weight, parameters.bias)?;
        let mut problem = layout(&data, op)?.dtype(data.dtype).param_dtype(param).std(std);
        problem = problem.gamma_offset(options.offset as f32);
        if !op.is_pointwise() {
            problem = problem.eps(options.eps as f32);
        }
        Ok(Self { data, alpha, shift, weight, bias, problem })
    }

    /// # Errors
    /// What the library says about it.
    pub(super) fn problem(&self) -> Result<Problem, Failure> {
        self.build(self.problem)
    }

    /// The problem with a quantised y.
    ///
    /// # Errors
    /// What the library says about it.
    pub(super) fn quantised(&self, quant: dyt::Quant) -> Result<Problem, Failure> {
        self.build(self.problem.quant(quant))
    }

    fn build(&self, problem: ProblemBuilder) -> Result<Problem, Failure> {
        problem.build().map_err(|error| super::runner::failure(&error))
    }
}

/// The problem of x's layout.
fn layout(data: &Data, op: Op) -> Result<ProblemBuilder, Failure> {
    let (layout, groups) = (data.layout, data.groups()?);
    // Without rows the gradients are zeros, of each group.
    let cols = if layout.rows == 0 { layout.cols * groups.max(1) } else { layout.cols };
    let problem = match layout.apart {
        None => Problem::new(op, layout.rows, cols).inner(layout.inner),
        Some(apart) => Problem::new(op, apart.tokens, cols)
            .heads(apart.heads, apart.head_stride)
            .row_stride(apart.row_stride)
            .y_strides(apart.heads * cols, cols),
    };
    Ok(if groups > 1 && layout.rows > 0 { problem.param_rows(layout.rows / groups) } else { problem })
}

/// weight and bias, contiguous and in one dtype: their own if it is x's, else f32.
///
/// # Errors
/// Another shape than [`Data::shape`], a dtype that the kernels do not know, or another device than x's.
fn vectors(
    data: &Data,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
) -> Result<(DType, Option<Tensor>, Option<Tensor>), Failure> {
    if weight.is_none() && bias.is_none() {
        return Ok((data.dtype, None, None));
    }
    let expected = data.shape()?;
    let seen = |name: &str, tensor: Option<Tensor>| {
        tensor.map(|tensor| vector(data, name, &tensor, &expected).map(|dtype| (dtype, tensor))).transpose()
    };
    let (weight, bias) = (seen("weight", weight)?, seen("bias", bias)?);
    let all = |dtype| [&weight, &bias].into_iter().flatten().all(|&(own, _)| own == dtype);
    let dtype = if all(data.dtype) { data.dtype } else { DType::F32 };
    let bring = |(own, tensor): (DType, Tensor)| {
        let sizes = tensor.sizes()?;
        let ready = own == dtype && is_contiguous(sizes, tensor.strides()?);
        if ready { Ok(tensor) } else { tensor.copy(&contiguous_strides(sizes), dtype) }
    };
    Ok((dtype, weight.map(bring).transpose()?, bias.map(bring).transpose()?))
}

/// The dtype of weight or bias.
fn vector(data: &Data, name: &str, tensor: &Tensor, expected: &[i64]) -> Result<DType, Failure> {
    data.here(name, tensor)?;
    let actual = tensor.sizes()?;
    if actual != expected {
        return Err(format!("dyt: {name} has shape {actual:?}, expected {expected:?}"));
    }
    known(name, tensor)
}
