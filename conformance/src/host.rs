//! Host copies of typed buffers, and buffers of a device with canaries around and between the rows.

use dyt::float8::{F8E4M3, F8E5M2};
use dyt::{Buffer, DType, Problem, Quant, Result, View, ViewMut};
use half::{bf16, f16};

use crate::Target;

/// Elements of one type in host memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Host {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F8E4M3(Vec<F8E4M3>),
    F8E5M2(Vec<F8E5M2>),
    I8(Vec<i8>),
}

/// The byte of an element that is not written yet, or must not be: no kernel writes it. A NaN with a sign, or −128.
const UNWRITTEN: u8 = 0xff;
const UNWRITTEN_I8: i8 = i8::MIN;

macro_rules! each {
    ($host:expr, $vec:ident => $body:expr) => {
        match $host {
            Host::F32($vec) => $body,
            Host::F16($vec) => $body,
            Host::Bf16($vec) => $body,
            Host::F8E4M3($vec) => $body,
            Host::F8E5M2($vec) => $body,
            Host::I8($vec) => $body,
        }
    };
}

impl Host {
    /// Values that the type holds exactly. Of one byte they are all the same, which no kernel writes.
    pub(crate) fn new(dtype: DType, values: impl Iterator<Item = f32>) -> Self {
        match dtype {
            DType::F32 => Self::F32(values.collect()),
            DType::F16 => Self::F16(values.map(f16::from_f32).collect()),
            DType::Bf16 => Self::Bf16(values.map(bf16::from_f32).collect()),
            DType::Quant(Quant::F8E4M3) => {
                Self::F8E4M3(values.map(|_| F8E4M3::from_bits(UNWRITTEN)).collect())
            }
            DType::Quant(Quant::F8E5M2) => {
                Self::F8E5M2(values.map(|_| F8E5M2::from_bits(UNWRITTEN)).collect())
            }
            DType::Quant(Quant::I8) => Self::I8(values.map(|_| UNWRITTEN_I8).collect()),
        }
    }

    pub(crate) fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(v) => v[i],
            Self::F16(v) => v[i].to_f32(),
            Self::Bf16(v) => v[i].to_f32(),
            Self::F8E4M3(v) => v[i].to_f32(),
            Self::F8E5M2(v) => v[i].to_f32(),
            Self::I8(v) => v[i].into(),
        }
    }

    fn bits(&self, i: usize) -> u32 {
        match self {
            Self::F32(v) => v[i].to_bits(),
            Self::F16(v) => v[i].to_bits().into(),
            Self::Bf16(v) => v[i].to_bits().into(),
            Self::F8E4M3(v) => v[i].to_bits().into(),
            Self::F8E5M2(v) => v[i].to_bits().into(),
            Self::I8(v) => v[i].cast_unsigned().into(),
        }
    }

    fn view(&self) -> View<'_> {
        each!(self, v => v.into())
    }

    fn view_mut(&mut self) -> ViewMut<'_> {
        each!(self, v => v.into())
    }
}

/// A value that no kernel computes by chance: finite, and exact in every type.
pub(crate) const CANARY: f32 = -1480.0;

/// Where an argument's elements lie in its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Elements in front of the argument; chooses its alignment.
    pub(crate) lead: usize,
    /// Elements behind it.
    pub(crate) trail: usize,
}

impl Layout {
    /// A guard of canaries on both sides. `odd` puts the first element off every boundary of a vector.
    pub(crate) const fn guarded(odd: bool) -> Self {
        Self { lead: if odd { 65 } else { 64 }, trail: 67 }
    }
}

/// The rows of an argument, for the gaps between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Elements of a row, and from one head to the next.
    head: (usize, usize),
    /// Elements from the first of a row or token to its last, and to the first of the next one.
    row: (usize, usize),
    tokens: usize,
}

impl Rows {
    /// Those of x.
    pub(crate) const fn of_x(problem: &Problem) -> Self {
        Self::new(problem, problem.row_stride(), problem.head_stride())
    }

    /// Those of y.
    pub(crate) const fn of_y(problem: &Problem) -> Self {
        Self::new(problem, problem.y_row_stride(), problem.y_head_stride())
    }

    const fn new(problem: &Problem, row_stride: usize, head_stride: usize) -> Self {
        let len = problem.row_len();
        let extent = (problem.heads() - 1) * head_stride + len;
        Self { head: (len, head_stride), row: (extent, row_stride), tokens: problem.rows() }
    }

    /// So many elements without a gap.
    const fn vector(len: usize) -> Self {
        let all = if len == 0 { 1 } else { len };
        Self { head: (all, all), row: (all, all), tokens: 1 }
    }

    /// Elements, with the gap behind the last row if `closed`.
    const fn elements(self, closed: bool) -> usize {
        let (extent, stride) = self.row;
        if closed || self.tokens == 0 { self.tokens * stride } else { (self.tokens - 1) * stride + extent }
    }

    /// Whether element `i` is in a gap.
    const fn is_gap(self, i: usize) -> bool {
        let at = i % self.row.1;
        at >= self.row.0 || at % self.head.1 >= self.head.0
    }
}

/// One argument in a buffer of the device.
#[derive(Debug)]
pub(crate) struct Slot {
    buffer: Buffer,
    layout: Layout,
    len: usize,
    rows: Rows,
}

impl Slot {
    /// `len` elements with canaries around them.
    pub(crate) fn vector(
        target: &dyn Target,
        layout: Layout,
        dtype: DType,
        values: impl ExactSizeIterator<Item = f32>,
    ) -> Result<Self> {
        let len = values.len();
        let guard = |n| core::iter::repeat_n(CANARY, n);
        let host = Host::new(dtype, guard(layout.lead).chain(values).chain(guard(layout.trail)));
        let buffer = target.upload(host.view())?;
        Ok(Self { buffer, layout, len, rows: Rows::vector(len) })
    }

    /// A tensor with `gap` in the gaps; behind the last row there is one if `closed`.
    pub(crate) fn tensor(
        target: &dyn Target,
        layout: Layout,
        dtype: DType,
        rows: Rows,
        closed: bool,
        gap: f32,
        value: impl Fn(usize) -> f32,
    ) -> Result<Self> {
        let values = (0..rows.elements(closed)).map(|i| if rows.is_gap(i) { gap } else { value(i) });
        Ok(Self { rows, ..Self::vector(target, layout, dtype, values)? })
    }

    pub(crate) fn view(&self) -> View<'_> {
        let begin = self.layout.lead;
        self.buffer.view(begin..begin + self.len).expect("the buffer was made for its layout")
    }

    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        let begin = self.layout.lead;
        self.buffer.view_mut(begin..begin + self.len).expect("the buffer was made for its layout")
    }

    /// Copies the buffer to the host.
    pub(crate) fn fetch(&self, target: &dyn Target) -> Result<Fetched> {
        let mut host = Host::new(self.buffer.dtype(), core::iter::repeat_n(0.0, self.buffer.len()));
        target.read(&self.buffer, host.view_mut())?;
        Ok(Fetched { host, lead: self.layout.lead, len: self.len, rows: self.rows })
    }
}

/// A buffer of a device after a run.
#[derive(Debug)]
pub(crate) struct Fetched {
    host: Host,
    lead: usize,
    len: usize,
    rows: Rows,
}

impl Fetched {
    pub(crate) fn get(&self, i: usize) -> f32 {
        self.host.get(self.lead + i)
    }

    /// Where a canary is gone, in elements from the argument's beginning.
    pub(crate) fn lost(&self) -> Option<isize> {
        let canary = Host::new(self.host.dtype(), core::iter::once(CANARY)).bits(0);
        self.outside().find(|&i| self.host.bits(i) != canary).map(|i| i as isize - self.lead as isize)
    }

    /// The elements of the buffer that are none of the argument's: around it and between its rows.
    fn outside(&self) -> impl Iterator<Item = usize> {
        let around = (0..self.lead).chain(self.lead + self.len..self.host.len());
        let gaps = (0..self.len).filter(|i| self.rows.is_gap(*i));
        around.chain(gaps.map(|i| self.lead + i))
    }

    /// Overwrites one element, at a distance from the argument's beginning.
    #[cfg(test)]
    pub(crate) fn put(&mut self, at: isize, value: f32) {
        let at = self.lead.checked_add_signed(at).expect("an element of the buffer");
        match &mut self.host {
            Host::F32(v) => v[at] = value,
            Host::F16(v) => v[at] = f16::from_f32(value),
            Host::Bf16(v) => v[at] = bf16::from_f32(value),
            Host::F8E4M3(v) => v[at] = F8E4M3::from_f32(value),
            Host::F8E5M2(v) => v[at] = F8E5M2::from_f32(value),
            Host::I8(v) => v[at] = value as i8,
        }
    }

    /// Where canaries stand, in elements from the argument's beginning.
    #[cfg(test)]
    pub(crate) fn canaries(&self) -> Vec<isize> {
        self.outside().map(|i| i as isize - self.lead as isize).collect()
    }
}

impl Host {
    fn len(&self) -> usize {
        each!(self, v => v.len())
    }

    const fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F16(_) => DType::F16,
            Self::Bf16(_) => DType::Bf16,
            Self::F8E4M3(_) => DType::Quant(Quant::F8E4M3),
            Self::F8E5M2(_) => DType::Quant(Quant::F8E5M2),
            Self::I8(_) => DType::Quant(Quant::I8),
        }
    }
}
