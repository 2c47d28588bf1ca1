//! Drivers that count the steps of loops.

use super::*;

/// A lane takes one row after the other: with all those of a chunk of the other devices it would take too many steps.
#[test]
fn chunks_of_long_rows_are_smaller_where_steps_are_counted() -> Result<()> {
    for (op, rows, cols, inner) in [
        (Op::RmsNorm, 1 << 13, 200_001, 1),
        (Op::LayerNorm, 1 << 13, 100_001, 1),
        (Op::LayerNorm, 1 << 14, 4096, 49),
    ] {
        let problem = Problem::new(op, rows, cols).inner(inner).build()?;
        let all = |limits: &Limits| backward(&problem, &arguments(&problem, Pass::Backward, 0), limits);
        let most =
            |dispatches: &[Dispatch]| dispatches.iter().map(|one| steps::of(one.kernel, &one.params)).max();
        assert!(most(&all(&LIMITS[1])?) > Some(65_535), "{problem:?} is no case of it");
        assert!(most(&all(&LIMITS[3])?) <= Some(65_535), "{problem:?}");
        check(&problem)?;
    }
    Ok(())
}

#[test]
fn a_row_of_too_many_steps_is_refused() -> Result<()> {
    for (op, cols, inner) in
        [(Op::LayerNorm, 12_000_000, 1), (Op::RmsNorm, 2_000_001, 1), (Op::RmsNorm, 600_000, 3)]
    {
        let problem = Problem::new(op, 1, cols).inner(inner).build()?;
        for (plan, pass) in [(forward as Plan, Pass::Forward), (backward as Plan, Pass::Backward)] {
            let refused = plan(&problem, &arguments(&problem, pass, 0), &LIMITS[3]).err();
            let too_many = matches!(
                refused,
                Some(Error::BackendUnavailable { reason: Refusal::LoopSteps { limit: 65_535, .. }, .. })
            );
            assert!(too_many, "{problem:?} {pass:?}: {refused:?}");
            assert!(
                plan(&problem, &arguments(&problem, pass, 0), &LIMITS[1]).is_ok(),
                "{problem:?} {pass:?}"
            );
        }
    }
    Ok(())
}
