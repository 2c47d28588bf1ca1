//! Calls of the C ABI with random fields and real buffers. `capi` runs this function on the corpus as a test.
//!
//! A caller may fill the fields with anything. What it promises is that pointers have the elements which the fields say:
//! buffers here have just as many, so that AddressSanitizer sees any other access, or are NULL where fields say more
//! than a test can have.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use std::sync::OnceLock;

use crate::abi::{dyt_backward_args, dyt_forward_args, dyt_problem, dyt_status};
use crate::calls::{dyt_backward, dyt_forward, dyt_workspace_size};
use crate::devices::{dyt_device, dyt_device_open};
use crate::status::dyt_last_error;

/// Elements of a tensor that a call gets; for more, pointers are NULL.
const MOST: i128 = 1 << 12;
/// What stands in buffers before a call where the input says nothing.
const FILLED: u8 = 0xa5;

/// Takes numbers off the input; 0 behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }

    /// A number below `usual` most of the time, else any.
    fn field(&mut self, usual: u32) -> u32 {
        match self.byte() {
            byte @ 0..=239 => u32::from(byte) % usual,
            _ => self.word(),
        }
    }

    /// A count: small most of the time, else any.
    fn count(&mut self) -> i64 {
        match self.byte() {
            byte @ 0..=199 => i64::from(byte % 40),
            200..=239 => i64::from(self.byte()) * 16,
            240..=247 => i64::from(self.word().cast_signed()),
            _ => (i64::from(self.word().cast_signed()) << 32) | i64::from(self.word()),
        }
    }

    fn problem(&mut self) -> dyt_problem {
        dyt_problem {
            size: match self.byte() {
                0..=239 => size_of::<dyt_problem>() as u32,
                // Beyond the struct the caller would have to own more bytes.
                _ => self.word() % (size_of::<dyt_problem>() as u32 + 1),
            },
            op: self.field(4),
            dtype: self.field(3),
            param_dtype: self.field(3),
            std: self.field(2),
            accumulate: self.field(2),
            eps: match self.byte() {
                0..=99 => 1e-5,
                100..=199 => 0.0,
                _ => f32::from_bits(self.word()),
            },
            reserved: if self.byte() < 250 { 0 } else { self.word() },
            rows: self.count(),
            cols: self.count(),
            row_stride: match self.byte() {
                0..=199 => 0,
                _ => self.count(),
            },
            inner: match self.byte() {
                0..=149 => 1,
                _ => self.count(),
            },
            gamma_offset: match self.byte() {
                0..=149 => 0.0,
                150..=199 => 1.0,
                _ => f32::from_bits(self.word()),
            },
            quant: match self.byte() {
                0..=149 => 0,
                _ => self.field(4),
            },
            quant_dynamic: self.field(2),
            reserved2: if self.byte() < 250 { 0 } else { self.word() },
            param_rows: 0,
            heads: 0,
            head_stride: 0,
            y_row_stride: 0,
            y_head_stride: 0,
        }
    }

    /// The fields of a later version that say where rows stand and which parameters they have.
    fn arrange(&mut self, problem: &mut dyt_problem) {
        let mut often_zero = || if self.byte().is_multiple_of(2) { 0 } else { self.count() };
        problem.param_rows = often_zero();
        problem.heads = often_zero();
        problem.head_stride = often_zero();
        problem.y_row_stride = often_zero();
        problem.y_head_stride = often_zero();
    }
}

/// What a problem's fields say of the buffers, if they say less than `MOST`.
#[derive(Clone, Copy)]
struct Needed {
    /// Bytes of an element of x, and of gamma.
    sizes: [usize; 2],
    /// Elements of x, and of y.
    spans: [usize; 2],
    params: usize,
    statistics: usize,
    /// The rows of x, and of y.
    rows: [Rows; 2],
}

/// Where the rows of a tensor stand: elements of a token and from one token to the next, and the same of a head.
#[derive(Clone, Copy)]
struct Rows {
    token: [usize; 2],
    head: [usize; 2],
}

impl Rows {
    /// Whether element `at` is in a gap.
    fn is_gap(self, at: usize) -> bool {
        let in_token = at % self.token[1].max(1);
        in_token >= self.token[0] || in_token % self.head[1].max(1) >= self.head[0]
    }
}

impl Needed {
    fn of(problem: &dyt_problem) -> Option<Self> {
        let size = |dtype: u32| if dtype == 0 { 4 } else { 2 };
        let inner = if problem.inner == 0 { 1 } else { i128::from(problem.inner) };
        let (rows, cols) = (i128::from(problem.rows), i128::from(problem.cols));
        let row = cols.checked_mul(inner)?;
        let or = |value: i64, default: i128| if value == 0 { default } else { value.into() };
        let heads = or(problem.heads, 1);
        let head_stride = if heads == 1 { row } else { or(problem.head_stride, cols) };
        let stride = or(problem.row_stride, heads.checked_mul(head_stride)?);
        let y_head_stride = if heads == 1 { row } else { or(problem.y_head_stride, head_stride) };
        let y_stride = or(problem.y_row_stride, stride);
        let extent = |head_stride: i128| (heads - 1).checked_mul(head_stride)?.checked_add(row);
        let (x_extent, y_extent) = (extent(head_stride)?, extent(y_head_stride)?);
        let span = |stride: i128, extent: i128| match rows {
            0 => Some(0),
            _ => (rows - 1).checked_mul(stride)?.checked_add(extent),
        };
        let all = rows.checked_mul(heads)?;
        let groups = if problem.param_rows == 0 { 1 } else { all / i128::from(problem.param_rows) };
        let spans = [span(stride, x_extent)?, span(y_stride, y_extent)?];
        let counts = [spans[0], spans[1], groups.checked_mul(cols)?, all.checked_mul(inner)?];
        let places = [row, stride, x_extent, head_stride, y_stride, y_extent, y_head_stride];
        if !counts.iter().chain(&places).all(|count| (0..=MOST).contains(count)) {
            return None;
        }
        let [x, y, params, statistics] = counts.map(|count| count as usize);
        let [row, stride, x_extent, head_stride, y_stride, y_extent, y_head_stride] =
            places.map(|count| count as usize);
        let rows = [
            Rows { token: [x_extent, stride], head: [row, head_stride] },
            Rows { token: [y_extent, y_stride], head: [row, y_head_stride] },
        ];
        let sizes = [size(problem.dtype), size(problem.param_dtype)];
        Some(Self { sizes, spans: [x, y], params, statistics, rows })
    }
}

/// A buffer, which begins as far behind an address of 16 bytes as the input says, and its bytes before the call.
struct Own {
    bytes: Vec<u8>,
    before: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Own {
    fn new(input: &mut Input<'_>, len: usize) -> Self {
        let skew = match input.byte() {
            0..=199 => 0,
            byte @ 200..=247 => usize::from(byte % 16) & !3,
            byte => usize::from(byte % 16),
        };
        // The end is that of the allocation.
        let mut bytes = vec![FILLED; 15 + skew + len];
        let begin = bytes.as_ptr().align_offset(16).min(15) + skew;
        let pattern: Vec<u8> = (0..8).map(|_| input.byte()).collect();
        for (to, from) in bytes[begin..begin + len].iter_mut().zip(pattern.iter().cycle()) {
            *to = *from;
        }
        bytes.truncate(begin + len);
        bytes.shrink_to_fit();
        Self::settled(bytes, len)
    }

    /// Shrinking may have moved the bytes: whatever the alignment then is, it is one.
    fn settled(bytes: Vec<u8>, len: usize) -> Self {
        let begin = bytes.len() - len;
        Self { before: bytes.clone(), bytes, begin, len }
    }

    fn at(&mut self) -> *mut c_void {
        self.bytes[self.begin..].as_mut_ptr().cast()
    }

    fn unchanged(&self) -> bool {
        self.bytes == self.before
    }

    /// Whether what lies between rows is as it was.
    fn gaps_unchanged(&self, size: usize, rows: Option<Rows>) -> bool {
        let is_gap = |at: usize| rows.is_none_or(|rows| rows.is_gap(at / size));
        let places = self.bytes.iter().zip(&self.before).enumerate();
        places
            .filter(|(at, _)| *at < self.begin || is_gap(at - self.begin))
            .all(|(_, (now, before))| now == before)
    }
}

/// One device for the whole process, as a caller has it.
fn device() -> *const dyt_device {
    static DEVICES: OnceLock<usize> = OnceLock::new();
    let address = DEVICES.get_or_init(|| {
        let mut device = ptr::null_mut();
        // SAFETY: a string, and a pointer to write to.
        let status = unsafe { dyt_device_open(c"cpu".as_ptr(), &raw mut device) };
        assert_eq!(status, dyt_status::DYT_OK as c_int);
        device.expose_provenance()
    });
    ptr::with_exposed_provenance(*address)
}

/// A call with whatever the bytes say: nothing is written where it fails, and nothing but outputs where it succeeds.
pub(crate) fn structs(bytes: &[u8]) {
    let input = &mut Input(bytes);
    let kind = input.byte();
    let backward = kind & 1 == 1;
    let mut problem = input.problem();
    if kind & 6 == 6 {
        input.arrange(&mut problem);
    }
    let mut workspace_bytes = 0;
    // SAFETY: the device is open, and the struct has the bytes that its size says, or more.
    let sized = unsafe {
        dyt_workspace_size(device(), &raw const problem, backward.into(), &raw mut workspace_bytes)
    };
    checked(sized);
    let needed = Needed::of(&problem);
    // What lies beyond memory must not be taken: there is no such buffer.
    if needed.is_none() && sized == dyt_status::DYT_OK as c_int {
        workspace_bytes = 0;
    }
    if backward {
        run_backward(input, &problem, needed, workspace_bytes);
    } else {
        run_forward(input, &problem, needed, workspace_bytes);
    }
}

/// A status is never that of a defect, and a failure has words.
fn checked(status: c_int) -> bool {
    assert!((0..dyt_status::DYT_INTERNAL as c_int).contains(&status), "status {status}: {}", words());
    assert!(status == 0 || !words().is_empty(), "status {status} without words");
    status == 0
}

fn words() -> String {
    // SAFETY: a string that ends in NUL.
    unsafe { CStr::from_ptr(dyt_last_error()) }.to_string_lossy().into_owned()
}

/// A buffer of `len` elements of `size` bytes, unless the input leaves it out or there can be none.
fn optional(input: &mut Input<'_>, len: Option<usize>, size: usize) -> Option<Own> {
    let there = input.byte() < 200;
    len.filter(|_| there).map(|len| Own::new(input, len * size))
}

/// The same for a field of a later version, which an input of an earlier one leaves out.
fn added(input: &mut Input<'_>, len: Option<usize>, size: usize) -> Option<Own> {
    let there = input.byte() % 4 == 1;
    len.filter(|_| there).map(|len| Own::new(input, len * size))
}

/// A workspace, which may be smaller than is needed.
fn workspace(input: &mut Input<'_>, bytes: usize) -> Own {
    let less = if input.byte() < 230 { 0 } else { usize::from(input.byte()) };
    let len = bytes.min(1 << 24).saturating_sub(less);
    Own::settled(vec![FILLED; len], len)
}

fn at(own: &mut Option<Own>) -> *mut c_void {
    own.as_mut().map_or(ptr::null_mut(), Own::at)
}

/// The pointer of an output: its own buffer, or where an input lies, or overlaps it.
fn output(input: &mut Input<'_>, own: &mut Option<Own>, partner: &mut Option<Own>) -> *mut c_void {
    match input.byte() {
        0..=199 => at(own),
        _ => at(partner),
    }
}

fn run_forward(input: &mut Input<'_>, problem: &dyt_problem, needed: Option<Needed>, workspace_bytes: usize) {
    let [size, param_size] = needed.map_or([4, 4], |needed| needed.sizes);
    let (span, y_span) = (needed.map(|n| n.spans[0]), needed.map(|n| n.spans[1]));
    let params = needed.map(|n| n.params);
    let (statistics, one) = (needed.map(|n| n.statistics), needed.map(|_| 1));
    let mut x = optional(input, span, size);
    let mut inputs = [(one, 4), (one, 4), (params, param_size), (params, param_size)]
        .map(|(len, size)| optional(input, len, size));
    let mut y = optional(input, y_span, size);
    let mut saved = [statistics, statistics].map(|len| optional(input, len, 4));
    let to = output(input, &mut y, &mut x);
    let mut workspace = workspace(input, workspace_bytes);
    let [alpha, shift, gamma, beta] = inputs.each_mut().map(|own| at(own).cast_const());
    let [mean, rstd] = saved.each_mut().map(at);
    let reserved = u32::from(input.byte() > 250);
    let (mut residual, mut sum) = (added(input, span, size), added(input, span, size));
    let sum_to = match input.byte() {
        0..=149 => at(&mut sum),
        150..=199 => at(&mut residual),
        200..=239 => at(&mut x),
        _ => at(&mut y),
    };
    // One value, or one of each row.
    let mut scale = added(input, statistics.map(|n| n.max(1)), 4);
    let args = dyt_forward_args {
        size: size_of::<dyt_forward_args>() as u32,
        reserved,
        x: at(&mut x),
        alpha,
        shift,
        gamma,
        beta,
        y: to,
        mean,
        rstd,
        residual: at(&mut residual),
        sum: sum_to,
        scale: at(&mut scale),
    };
    let (space, bytes) = (workspace.at(), workspace.len);
    // SAFETY: the device is open, and buffers have what the problem says.
    let status = unsafe { dyt_forward(device(), problem, &raw const args, space, bytes, ptr::null_mut()) };
    let done = checked(status);
    assert!(inputs.iter().flatten().all(Own::unchanged), "an input is written");
    let found = done && problem.quant != 0 && problem.quant_dynamic == 1;
    assert!(found || scale.iter().all(Own::unchanged), "a scale is written that is an input");
    let y_size = if problem.quant == 0 { size } else { 1 };
    let [of_x, of_y] = [0, 1].map(|k| needed.map(|needed| needed.rows[k]));
    for own in [&mut x, &mut residual, &mut y, &mut sum].into_iter().flatten() {
        let kept = match own.at() {
            at if done && at == to => own.gaps_unchanged(y_size, of_y),
            at if done && at == sum_to => own.gaps_unchanged(size, of_x),
            _ => own.unchanged(),
        };
        assert!(kept, "a tensor is written where it must not be: {}", words());
    }
    assert!(
        done || saved.iter().flatten().all(Own::unchanged),
        "statistics are written by a call that fails"
    );
}

fn run_backward(
    input: &mut Input<'_>,
    problem: &dyt_problem,
    needed: Option<Needed>,
    workspace_bytes: usize,
) {
    let [size, param_size] = needed.map_or([4, 4], |needed| needed.sizes);
    let (span, y_span) = (needed.map(|n| n.spans[0]), needed.map(|n| n.spans[1]));
    let params = needed.map(|n| n.params);
    let (statistics, one) = (needed.map(|n| n.statistics), needed.map(|_| 1));
    let mut dy = optional(input, y_span, size);
    let mut inputs =
        [(span, size), (one, 4), (one, 4), (params, param_size), (statistics, 4), (statistics, 4)]
            .map(|(len, size)| optional(input, len, size));
    let mut dx = optional(input, span, size);
    let mut gradients = [one, one, params, params].map(|len| optional(input, len, 4));
    let mut to = output(input, &mut dx, &mut dy);
    let mut workspace = workspace(input, workspace_bytes);
    let [x, alpha, shift, gamma, mean, rstd] = inputs.each_mut().map(|own| at(own).cast_const());
    let [dalpha, dshift, dgamma, dbeta] = gradients.each_mut().map(at);
    let reserved = u32::from(input.byte() > 250);
    let mut dsum = added(input, span, size);
    if input.byte() > 200 {
        to = at(&mut dsum);
    }
    let args = dyt_backward_args {
        size: size_of::<dyt_backward_args>() as u32,
        reserved,
        dy: at(&mut dy),
        x,
        alpha,
        shift,
        gamma,
        mean,
        rstd,
        dx: to,
        dalpha,
        dshift,
        dgamma,
        dbeta,
        dsum: at(&mut dsum),
    };
    let (space, bytes) = (workspace.at(), workspace.len);
    // SAFETY: the device is open, and buffers have what the problem says.
    let status = unsafe { dyt_backward(device(), problem, &raw const args, space, bytes, ptr::null_mut()) };
    let done = checked(status);
    assert!(inputs.iter().flatten().all(Own::unchanged), "an input is written");
    let rows = needed.map(|needed| needed.rows[0]);
    for own in [&mut dy, &mut dsum, &mut dx].into_iter().flatten() {
        let written = done && to == own.at();
        let kept = if written { own.gaps_unchanged(size, rows) } else { own.unchanged() };
        assert!(kept, "a tensor is written where it must not be: {}", words());
    }
    assert!(
        done || gradients.iter().flatten().all(Own::unchanged),
        "gradients are written by a call that fails"
    );
}
