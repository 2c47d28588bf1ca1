//! How the elements of a tensor lie as rows of channels, and which of the rows share parameters.

use candle_core::{Layout, Result, Tensor, bail};

/// A view whose channels lie side by side, as tokens of heads: the queries in a packed QKV. It needs no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) row_stride: usize,
    pub(crate) head_stride: usize,
}

impl Strided {
    /// `None` where the rows of the view lie otherwise. Channels are the last dimension.
    pub(crate) fn of(layout: &Layout) -> Option<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let (cols, ones) = (*dims.last()?, *strides.last()?);
        if ones != 1 && cols > 1 || dims.contains(&0) {
            return None;
        }
        // From the inside to the outside: (rows, stride), those that are equally far apart as one.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let outer = dims[..dims.len() - 1].iter().zip(strides).rev();
        for (&dim, &stride) in outer.filter(|(dim, _)| **dim > 1) {
            match runs.last_mut() {
                Some((rows, step)) if *rows * *step == stride => *rows *= dim,
                _ => runs.push((dim, stride)),
            }
        }
        let strided = match runs[..] {
            [] => Self { tokens: 1, heads: 1, row_stride: cols, head_stride: cols },
            [(tokens, row_stride)] => Self { tokens, heads: 1, row_stride, head_stride: cols },
            [(heads, head_stride), (tokens, row_stride)] => Self { tokens, heads, row_stride, head_stride },
            _ => return None,
        };
        let extent = (strided.heads - 1) * strided.head_stride + cols;
        (strided.head_stride >= cols && strided.row_stride >= extent).then_some(strided)
    }
}

/// The groups of rows of `x` that have parameters of their own: 1, or the product of the dimensions that a parameter has in
/// front of its channels, which are then the first ones of x.
pub(crate) fn groups<'a>(
    x: &Tensor,
    axis: usize,
    parameters: impl Iterator<Item = &'a Tensor>,
) -> Result<usize> {
    let mut groups = 1;
    for parameter in parameters.filter(|parameter| parameter.rank() > 1) {
        let Some((cols, lead)) = parameter.dims().split_last() else { continue };
        let product = lead.iter().product();
        if product == 1 {
            continue;
        }
        let fits = lead.len() <= axis && *lead == x.dims()[..lead.len()] && *cols == x.dims()[axis];
        if !fits || groups > 1 && groups != product {
            bail!("a parameter has the shape {:?}, and x {:?}", parameter.shape(), x.shape());
        }
        groups = product;
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn strided(view: &Tensor) -> Option<Strided> {
        Strided::of(view.layout())
    }

    #[test]
    fn queries_in_a_packed_qkv_are_heads() -> Result<()> {
        let (batch, tokens, heads, cols) = (2, 5, 4, 8);
        let qkv = Tensor::zeros((batch, tokens, 3, heads, cols), DType::F32, &Device::Cpu)?;
        let keys = qkv.narrow(2, 1, 1)?.squeeze(2)?;
        let expected =
            Strided { tokens: batch * tokens, heads, row_stride: 3 * heads * cols, head_stride: cols };
        assert_eq!(strided(&keys), Some(expected));
        let one_head = keys.narrow(2, 1, 1)?;
        let expected = Strided { heads: 1, ..expected };
        assert_eq!(strided(&one_head), Some(expected));
        // Heads in front of tokens: a row of a token begins in front of that of its neighbour.
        assert_eq!(strided(&keys.transpose(1, 2)?), None);
        assert_eq!(strided(&keys.t()?), None);
        Ok(())
    }
}
