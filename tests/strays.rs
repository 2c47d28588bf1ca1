//! Rows whose squares f32 cannot hold change no bit of what other calls would give: whether dx is asked for or in place.

mod common;

use dyt::{Backward, Op, Problem, Result};

#[test]
fn sums_do_not_depend_on_dx_beside_rows_that_stray() -> Result<()> {
    for device in common::devices() {
        let columns = || [100, 768, 1500].into_iter().flat_map(|cols| [(cols, 19), (cols, 1)]);
        for (op, (cols, rows)) in
            [Op::LayerNorm, Op::RmsNorm].into_iter().flat_map(|op| columns().map(move |shape| (op, shape)))
        {
            let mut random = common::Random::new(7);
            let (mut x, dy, gamma) =
                (random.values(rows * cols), random.values(rows * cols), random.values(cols));
            for row in (0..rows).filter(|row| row % 6 == 0) {
                x[row * cols + 3] = 1e30;
            }
            let problem = Problem::new(op, rows, cols).build()?;
            let run = |arguments: Backward<'_>| device.backward(&problem, arguments);
            let sums = || (vec![0.0_f32; cols], vec![0.0_f32; cols]);
            let ((mut dgamma, mut dbeta), mut dx) = (sums(), vec![0.0; rows * cols]);
            run(Backward::of(&x).dy(&dy).gamma(&gamma).dx(&mut dx).dgamma(&mut dgamma).dbeta(&mut dbeta))?;
            let expected = (dgamma.clone(), dbeta.clone());
            (dgamma, dbeta) = sums();
            run(Backward::of(&x).dy(&dy).gamma(&gamma).dgamma(&mut dgamma).dbeta(&mut dbeta))?;
            assert!(
                (&dgamma, &dbeta) == (&expected.0, &expected.1),
                "{} {op:?} {cols}: without dx",
                device.name()
            );
            (dgamma, dbeta) = sums();
            let mut both = dy.clone();
            run(Backward::of(&x).in_place(&mut both).gamma(&gamma).dgamma(&mut dgamma).dbeta(&mut dbeta))?;
            assert!(
                (&dgamma, &dbeta) == (&expected.0, &expected.1),
                "{} {op:?} {cols}: in place",
                device.name()
            );
            assert_eq!(both, dx, "{} {op:?} {cols}", device.name());
        }
    }
    Ok(())
}

/// Without rows there is nothing to add, and a −0 stays one.
#[test]
fn nothing_is_added_without_rows() -> Result<()> {
    for device in common::devices() {
        let problem = Problem::new(Op::Dyt, 0, 3).accumulate(true).build()?;
        let mut dgamma = [-0.0_f32; 3];
        let (gamma, none) = ([1.0_f32; 3], [0.0_f32; 0]);
        let arguments = Backward::of(&none).dy(&none).alpha(&-0.5).gamma(&gamma);
        device.backward(&problem, arguments.dgamma(&mut dgamma))?;
        assert_eq!(dgamma.map(f32::to_bits), [(-0.0_f32).to_bits(); 3]);
        let problem = Problem::new(Op::Dyt, 0, 3).build()?;
        let arguments = Backward::of(&none).dy(&none).alpha(&-0.5).gamma(&gamma);
        device.backward(&problem, arguments.dgamma(&mut dgamma))?;
        assert_eq!(dgamma.map(f32::to_bits), [0; 3]);
    }
    Ok(())
}
