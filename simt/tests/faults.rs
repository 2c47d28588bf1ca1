//! The checks find what they are there for, in kernels that have the mistake.

use dyt_simt::{Call, Order};

/// Runs a kernel with mistakes with 64 threads, `floats` values of output and `shared_bytes` of shared memory.
fn run(name: &str, order: Order, floats: usize, shared_bytes: u32) -> Result<Vec<f32>, String> {
    let mut out: Vec<f32> = (0..floats).map(|i| i as f32).collect();
    let parameter = out.as_mut_ptr().expose_provenance().to_ne_bytes();
    let call = Call { name, grid: [1, 1, 1], block: [64, 1, 1], shared_bytes, parameter: &parameter };
    // SAFETY: the output is as long as the caller knows the kernel to need; two kernels are there to go beyond, and
    // run only where AddressSanitizer stops them.
    unsafe { call.run(order)? };
    Ok(out)
}

#[test]
fn a_missing_barrier_shows_as_other_bits() -> Result<(), String> {
    let bits = |name, order| run(name, order, 64, 256).map(|out| out.iter().map(|v| v.to_bits()).collect());
    let right: Vec<u32> = (0..64_u32).map(|i| ((i ^ 1) as f32).to_bits()).collect();
    for order in Order::ALL {
        let with: Vec<u32> = bits("fault_with_barrier", order)?;
        assert_eq!(with, right, "{order:?}");
    }
    let [forward, reverse, random]: [Vec<u32>; 3] = [Order::Forward, Order::Reverse, Order::Random]
        .map(|o| bits("fault_missing_barrier", o).unwrap_or_default());
    assert_eq!(forward.len(), 64);
    assert!(forward != reverse && forward != random && reverse != random);
    Ok(())
}

#[test]
fn threads_that_wait_in_vain_are_reported() {
    for order in Order::ALL {
        for name in ["fault_divergent_barrier", "fault_divergent_shuffle"] {
            let fault = run(name, order, 64, 0).expect_err("thread 0 does not come");
            assert!(fault.contains("others have not reached"), "{fault}");
        }
    }
}

#[test]
fn a_copy_is_not_there_before_it_is_waited_for() -> Result<(), String> {
    let out = run("fault_missing_wait", Order::Forward, 256, 1024)?;
    assert!(out.iter().step_by(4).all(|v| v.is_nan()), "what was read is what shared memory begins with");
    let fault = run("fault_abandoned_copy", Order::Forward, 256, 1024).expect_err("nobody waits");
    assert!(fault.contains("before its copies had arrived"), "{fault}");
    Ok(())
}

#[test]
fn what_a_kernel_does_not_have_is_refused() {
    let fault = run("no_such_kernel", Order::Forward, 64, 0).expect_err("no kernel");
    assert!(fault.contains("no kernel has this name"), "{fault}");
}

/// Each in a program of its own, which AddressSanitizer ends.
#[cfg(feature = "asan")]
#[test]
fn an_access_out_of_bounds_ends_the_program() -> Result<(), Box<dyn std::error::Error>> {
    const NAME: &str = "DYT_SIMT_FAULT";
    if let Some(name) = std::env::var_os(NAME) {
        run(&name.to_string_lossy(), Order::Forward, 64, 256)?;
        return Ok(());
    }
    for (name, report) in [
        ("fault_with_barrier", ""),
        ("fault_beyond", "heap-buffer-overflow"),
        ("fault_beyond_shared", "heap-buffer-overflow"),
    ] {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args(["an_access_out_of_bounds_ends_the_program", "--exact"])
            .env(NAME, name)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), report.is_empty(), "{name}: {said}");
        assert!(said.contains(report), "{name}: {said}");
    }
    Ok(())
}
