//! What a call has beside its op.

use core::fmt;
use core::str::FromStr;

use dyt::{Pass, ProblemBuilder, Quant};

/// Groups of rows, and heads of a token, where a problem has so many rows.
const PARTS: usize = 8;

/// What a call has beside its op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Nothing: rows one behind the other, which share gamma and beta.
    #[default]
    Plain,
    /// The forward adds a residual and writes the sum, and the backward adds dsum.
    Residual,
    /// Eight groups of rows have gamma and beta of their own.
    ParamRows,
    /// The rows are the queries of a packed QKV, eight heads a token; y and dy are packed.
    Heads,
    /// The forward quantises y to f8e4m3 by a scale that it is given.
    Quant,
    /// The forward quantises y to f8e4m3, and finds a scale for each row.
    QuantDynamic,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Residual, Self::ParamRows, Self::Heads, Self::Quant, Self::QuantDynamic];

    /// The name as in the problem: `plain`, `residual`, `param_rows`, `heads`, `quant`, `quant_dynamic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Residual => "residual",
            Self::ParamRows => "param_rows",
            Self::Heads => "heads",
            Self::Quant => "quant",
            Self::QuantDynamic => "quant_dynamic",
        }
    }

    /// The passes that have it: a quantised y has no backward.
    #[must_use]
    pub const fn passes(self) -> &'static [Pass] {
        if self.quantises() { &[Pass::Forward] } else { &Pass::ALL }
    }

    /// Whether y is quantised.
    #[must_use]
    pub const fn quantises(self) -> bool {
        matches!(self, Self::Quant | Self::QuantDynamic)
    }

    /// A problem of `rows × cols` in this form.
    pub(crate) const fn of(self, problem: ProblemBuilder, rows: usize, cols: usize) -> ProblemBuilder {
        match self {
            Self::Plain | Self::Residual => problem,
            Self::ParamRows => problem.param_rows(rows / parts(rows)),
            Self::Heads => {
                let heads = parts(rows);
                problem.heads(heads, cols).row_stride(3 * heads * cols).y_strides(heads * cols, cols)
            }
            Self::Quant | Self::QuantDynamic => problem.quant(Quant::F8E4M3),
        }
    }

    /// The rows that a problem of this form counts, of so many.
    pub(crate) const fn tokens(self, rows: usize) -> usize {
        if matches!(self, Self::Heads) { rows / parts(rows) } else { rows }
    }

    /// Elements of x for each element that is computed: a packed QKV has keys and values, too.
    pub(crate) const fn spread(self) -> usize {
        if matches!(self, Self::Heads) { 3 } else { 1 }
    }
}

/// [`PARTS`], or 1 where it does not divide the rows.
const fn parts(rows: usize) -> usize {
    if rows.is_multiple_of(PARTS) { PARTS } else { 1 }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|form| form.name() == name);
        found.ok_or_else(|| format!("a form is one of {}", names()))
    }
}
