//! The digits, their split, and batches of them.

use std::io::Read;

use candle_core::{Device, Error, Result, Tensor, bail};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Pixels along one side.
pub(crate) const SIDE: usize = 8;
/// Digits are of these many classes.
pub(crate) const CLASSES: usize = 10;
const PIXELS: usize = SIDE * SIDE;
/// How much a pixel may be changed in training, of a range of 2.
const NOISE: f32 = 0.5;

/// One digit: its pixels from -1 to 1, and its class.
struct Digit {
    pixels: [f32; PIXELS],
    class: u32,
}

/// All digits, and which of them are for what.
pub(crate) struct Digits {
    digits: Vec<Digit>,
    /// For training.
    pub(crate) train: Vec<usize>,
    /// For the choice of the learning rate.
    pub(crate) validation: Vec<usize>,
    /// For the figure that is reported.
    pub(crate) test: Vec<usize>,
}

impl Digits {
    /// Reads the digits and splits them: a fifth for validation, a fifth for the test, in an order that `rng` makes.
    pub(crate) fn load(rng: &mut StdRng) -> Result<Self> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&include_bytes!("../../data/digits.csv.gz")[..])
            .read_to_string(&mut text)?;
        let digits = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..digits.len()).collect();
        order.shuffle(rng);
        let fifth = order.len() / 5;
        let test = order.split_off(order.len() - fifth);
        let validation = order.split_off(order.len() - fifth);
        Ok(Self { digits, train: order, validation, test })
    }

    /// Images (`count × 8 × 8`) and classes. With `variations`, each image is moved by up to a pixel
    /// in each direction, and each pixel is a little brighter or darker.
    pub(crate) fn batch(
        &self,
        which: &[usize],
        mut variations: Option<&mut StdRng>,
    ) -> Result<(Tensor, Tensor)> {
        let mut pixels = Vec::with_capacity(which.len() * PIXELS);
        let mut classes = Vec::with_capacity(which.len());
        for i in which {
            let digit = &self.digits[*i];
            match variations.as_deref_mut() {
                Some(rng) => {
                    let (down, right) = (rng.random_range(-1..=1_i32), rng.random_range(-1..=1_i32));
                    let moved = shifted(&digit.pixels, down, right);
                    pixels.extend(moved.map(|pixel| pixel + rng.random_range(-NOISE..NOISE)));
                }
                None => pixels.extend(digit.pixels),
            }
            classes.push(digit.class);
        }
        let images = Tensor::from_vec(pixels, (which.len(), SIDE, SIDE), &Device::Cpu)?;
        Ok((images, Tensor::from_vec(classes, which.len(), &Device::Cpu)?))
    }
}

/// A line of 64 pixels and a class.
fn parse(line: &str) -> Result<Digit> {
    let values: Vec<u32> =
        line.split(',').map(|v| v.trim().parse().map_err(Error::wrap)).collect::<Result<_>>()?;
    let [pixels @ .., class] = &values[..] else { bail!("an empty line among the digits") };
    if pixels.len() != PIXELS || *class as usize >= CLASSES {
        bail!("a digit of {} pixels and class {class}", pixels.len());
    }
    let mut digit = Digit { pixels: [0.0; PIXELS], class: *class };
    for (to, from) in digit.pixels.iter_mut().zip(pixels) {
        *to = *from as f32 / 8.0 - 1.0;
    }
    Ok(digit)
}

/// The image moved; what comes in from outside is paper.
fn shifted(pixels: &[f32; PIXELS], down: i32, right: i32) -> impl Iterator<Item = f32> {
    let at = move |row: usize, column: usize| {
        let row = row.checked_add_signed(-down as isize).filter(|row| *row < SIDE)?;
        let column = column.checked_add_signed(-right as isize).filter(|column| *column < SIDE)?;
        Some(pixels[row * SIDE + column])
    };
    (0..PIXELS).map(move |i| at(i / SIDE, i % SIDE).unwrap_or(-1.0))
}
