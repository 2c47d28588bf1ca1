//! The arguments of `dyt run`, and which of them belong together.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use dyt::{Op, Quant, Std};

use crate::error::CliError;
use crate::tensor::{Format, METADATA, Reference, target_of};

/// Arguments of `dyt run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Files are .npy or .safetensors, in f32, f16 or bf16 (in .npy, where NumPy has no bf16, as two-byte void |V2).
With a note, f64 is read as f32, and .npy in big-endian or Fortran order is converted; Fortran order takes the
whole tensor in memory, which --memory has to allow.

FILE.safetensors:NAME is the tensor of that name in the file. As --output it replaces that tensor or adds it; the
other tensors and the metadata stay as they are. To read a file with only one tensor, no name is needed. Any other
output that exists, and a --sum or --gradients file that exists, is overwritten only with --force.

The last dimension of the input is the columns and all others are rows; with --channels-first the first is the
rows and the second the columns. The output has the type and the shape of the input.

With --quantise the output is F8_E4M3, F8_E5M2 or I8 in .safetensors, or i8 in .npy, where NumPy has no 8-bit
floats: y / scale, rounded to nearest even. The scale is --scale, or one of each row, which --scales takes.")]
pub(crate) struct RunArgs {
    /// dyt, derf, layer_norm or rms_norm
    #[arg(value_name = "OP", value_parser = parse_op)]
    pub(super) op: Op,
    /// The tensor x
    #[arg(long, value_name = "FILE[:NAME]")]
    input: Reference,
    /// The name of x in a .safetensors input
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    /// Where y goes, or dx with --dy: a new file, or with :NAME one tensor of a .safetensors file
    #[arg(long, value_name = "FILE[:NAME]")]
    pub(super) output: Reference,
    /// Overwrite --output and --sum without :NAME and --gradients where they exist
    #[arg(long)]
    pub(super) force: bool,
    /// What is added to x before the op, as x in type and shape
    #[arg(long, value_name = "FILE[:NAME]", requires = "sum", conflicts_with = "dy")]
    pub(super) residual: Option<Reference>,
    /// Where x + residual goes: a new file, or with :NAME one tensor of a .safetensors file
    #[arg(long, value_name = "FILE[:NAME]", requires = "residual")]
    pub(super) sum: Option<Reference>,
    /// Quantise y: f8e4m3, f8e5m2 or i8
    #[arg(long, value_name = "TYPE", value_parser = parse_quant, conflicts_with = "dy")]
    pub(super) quantise: Option<Quant>,
    /// With --quantise: what y is divided by, as a number or a tensor of one element
    #[arg(long, value_name = "NUMBER|FILE[:NAME]", requires = "quantise", allow_negative_numbers = true)]
    pub(super) scale: Option<Scalar>,
    /// With --quantise: where the scales go that are found for each row, in f32: a new file, or with :NAME one tensor
    #[arg(long, value_name = "FILE[:NAME]", requires = "quantise", conflicts_with = "scale")]
    pub(super) scales: Option<Reference>,
    /// Run the backward: the gradient of y, as x in type and shape
    #[arg(long, value_name = "FILE[:NAME]")]
    pub(super) dy: Option<Reference>,
    /// With --dy: what is added to dx, the gradient of x + residual, which is --input
    #[arg(long, value_name = "FILE[:NAME]", requires = "dy")]
    pub(super) dsum: Option<Reference>,
    /// With --dy: a new .safetensors file for dalpha, dshift, dgamma and dbeta, otherwise printed
    #[arg(long, value_name = "FILE", requires = "dy")]
    pub(super) gradients: Option<Reference>,
    /// A factor for each column, or a row of them for each of equal groups of rows; with --dy, its gradient is wanted
    #[arg(long, value_name = "FILE[:NAME]")]
    pub(super) gamma: Option<Reference>,
    /// The factor is gamma + NUMBER: 1 for Gemma's weights
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "gamma",
        allow_negative_numbers = true,
        default_value_t = 0.0
    )]
    pub(super) gamma_offset: f32,
    /// An offset for each column, or a row of them as in --gamma; with --dy, its gradient is wanted
    #[arg(long, value_name = "FILE[:NAME]")]
    pub(super) beta: Option<Reference>,
    /// The factor of x in dyt and derf, as a number or a tensor of one element
    #[arg(long, value_name = "NUMBER|FILE[:NAME]", allow_negative_numbers = true)]
    pub(super) alpha: Option<Scalar>,
    /// The offset in derf; 0 by default
    #[arg(long, value_name = "NUMBER|FILE[:NAME]", allow_negative_numbers = true)]
    pub(super) shift: Option<Scalar>,
    /// What keeps the norms finite; 1e-5 for layer_norm, 1e-6 for its unbiased form and rms_norm by default
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) eps: Option<f32>,
    /// The standard deviation of layer_norm
    #[arg(long, value_enum, default_value_t = StdArg::Biased)]
    pub(super) std: StdArg,
    /// The input is N×C×S…, with parameters along C
    #[arg(long)]
    pub(super) channels_first: bool,
    /// The device, such as cpu:avx2; by default the best one, or what DYT_BACKEND names
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// Memory for the tensors, such as 64M or 2G; at least one whole row has to fit in it
    #[arg(long, value_name = "BYTES", default_value = "256M")]
    pub(super) memory: Bytes,
    /// Rows in memory at once, in place of --memory
    #[arg(long, value_name = "ROWS", conflicts_with = "memory")]
    pub(super) block_rows: Option<NonZeroUsize>,
}

impl RunArgs {
    /// x, with the name that `--tensor` gives.
    pub(super) fn input(&self) -> Result<Reference, CliError> {
        match (&self.tensor, &self.input.name) {
            (Some(_), Some(_)) => Err(CliError::Usage("the tensor of --input is named twice".to_owned())),
            (name, None) => Ok(Reference { name: name.clone(), ..self.input.clone() }),
            (None, Some(_)) => Ok(self.input.clone()),
        }
    }

    /// What clap cannot see: arguments that the op needs or does not have, and the formats of files.
    pub(super) fn check(&self) -> Result<(), CliError> {
        let op = self.op;
        let refuse = |argument: &str| Err(CliError::Usage(format!("{op} has no {argument}")));
        if op.is_pointwise() && self.alpha.is_none() {
            return Err(CliError::Usage(format!("{op} needs --alpha (layers begin with 0.5)")));
        }
        if !op.is_pointwise() && self.alpha.is_some() {
            return refuse("--alpha");
        }
        if !op.has_shift() && self.shift.is_some() {
            return refuse("--shift");
        }
        if op.is_pointwise() && self.eps.is_some() {
            return refuse("--eps");
        }
        if op != Op::LayerNorm && self.std == StdArg::Unbiased {
            return refuse("--std unbiased");
        }
        if let Some(quant) = self.quantise {
            self.check_quantise(quant)?;
        }
        self.check_files()
    }

    fn check_quantise(&self, quant: Quant) -> Result<(), CliError> {
        if self.scale.is_none() && self.scales.is_none() {
            return Err(CliError::Usage("--quantise needs --scale or --scales".to_owned()));
        }
        if quant != Quant::I8 && Format::of(&self.output.path)? == Format::Npy {
            let text = format!("NumPy has no {quant}: with it --output takes a .safetensors file");
            return Err(CliError::Usage(text));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), CliError> {
        let others = [&self.dy, &self.residual, &self.sum, &self.dsum, &self.scales].map(Option::as_ref);
        for reference in [Some(&self.input), Some(&self.output)].into_iter().chain(others).flatten() {
            Format::of(&reference.path)?;
        }
        let beside = [(self.sum.as_ref(), "--sum"), (self.scales.as_ref(), "--scales")];
        for (written, argument) in [(Some(&self.output), "--output")].into_iter().chain(beside) {
            match written.and_then(|reference| reference.name.as_deref()) {
                Some("") => return Err(CliError::Usage(format!("{argument} has no name after the colon"))),
                Some(METADATA) => {
                    return Err(CliError::Usage(format!("{METADATA} is no tensor of a .safetensors file")));
                }
                _ => {}
            }
        }
        // Only the file that is written last would be left.
        let same = |one: &Reference, other: &Reference| target_of(&one.path) == target_of(&other.path);
        for (written, argument) in beside {
            if written.is_some_and(|written| same(written, &self.output)) {
                return Err(CliError::Usage(format!("{argument} and --output are the same file")));
            }
        }
        if self.sum.as_ref().zip(self.scales.as_ref()).is_some_and(|(sum, scales)| same(sum, scales)) {
            return Err(CliError::Usage("--sum and --scales are the same file".to_owned()));
        }
        if let Some(gradients) = &self.gradients {
            if Format::of(&gradients.path)? != Format::Safetensors || gradients.name.is_some() {
                let text = "--gradients takes a .safetensors file, and no name of a tensor";
                return Err(CliError::Usage(text.to_owned()));
            }
            if !self.op.is_pointwise() && self.gamma.is_none() && self.beta.is_none() {
                let text = format!("{} has gradients of parameters only with --gamma or --beta", self.op);
                return Err(CliError::Usage(text));
            }
            if same(gradients, &self.output) {
                return Err(CliError::Usage("--gradients and --output are the same file".to_owned()));
            }
        }
        Ok(())
    }
}

/// The op of that name; `layernorm`, `LayerNorm` and `layer-norm` are `layer_norm`.
fn parse_op(text: &str) -> Result<Op, String> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    let names = || Op::ALL.map(Op::name).join(", ");
    Op::ALL
        .into_iter()
        .find(|op| plain(op.name()) == plain(text))
        .ok_or_else(|| format!("the ops are {}", names()))
}

fn parse_quant(text: &str) -> Result<Quant, String> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    let names = || Quant::ALL.map(Quant::name).join(", ");
    let known = Quant::ALL.into_iter().find(|quant| quant.name() == plain(text));
    known.ok_or_else(|| format!("the types are {}", names()))
}

/// [`Std`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StdArg {
    /// 1/√(Σ(x−mean)²/cols + eps)
    Biased,
    /// 1/(√(Σ(x−mean)²/(cols−1)) + eps)
    Unbiased,
}

impl From<StdArg> for Std {
    fn from(std: StdArg) -> Self {
        match std {
            StdArg::Biased => Self::Biased,
            StdArg::Unbiased => Self::Unbiased,
        }
    }
}

/// One number, or a file that has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Value(f32),
    File(Reference),
}

impl FromStr for Scalar {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.parse() {
            Ok(value) => Self::Value(value),
            Err(_) => Self::File(text.parse()?),
        })
    }
}

/// A number of bytes: `65536`, `64K`, `256M`, `2G`, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            _ => return Err("the units are K, M and G".to_owned()),
        };
        let number: u64 = digits.parse().map_err(|_| "expected a number such as 256M".to_owned())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "that is more than any machine has".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ops_are_read_as_people_write_them() {
        for name in ["layer_norm", "layernorm", "LayerNorm", "layer-norm"] {
            assert_eq!(parse_op(name), Ok(Op::LayerNorm));
        }
        assert_eq!(parse_op("rmsnorm"), Ok(Op::RmsNorm));
        assert!(parse_op("tanh").is_err_and(|text| text.contains("dyt, derf, layer_norm, rms_norm")));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("65536".parse(), Ok(Bytes(65536)));
        assert_eq!("64k".parse(), Ok(Bytes(65536)));
        assert_eq!("2GiB".parse(), Ok(Bytes(2 << 30)));
        for wrong in ["", "M", "-1", "1.5G", "1T", "99999999999999999999", "99999999999G"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scalar_is_a_number_or_a_file() {
        assert_eq!("-0.5".parse(), Ok(Scalar::Value(-0.5)));
        let file = Reference { path: "a.safetensors".into(), name: Some("alpha".to_owned()) };
        assert_eq!("a.safetensors:alpha".parse(), Ok(Scalar::File(file)));
    }
}
