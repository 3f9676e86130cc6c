//! Graphs, as capture gives them. Nodes cannot be added or changed.

use std::ffi::c_char;

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    entry::{Out, exports},
    graph::Executable,
};

impl Driver {
    fn instantiate(&mut self, to: Out<Handle>, graph: Handle) -> Outcome {
        if to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let graph = self.graphs.get(&graph).ok_or(Code::INVALID_VALUE)?.clone();
        let context = self.current()?;
        let handle = self.new_handle();
        self.executables.insert(handle, Executable::new(context, graph));
        to.set(handle)
    }
}

exports! {
    fn cuGraphInstantiate_v2(
        driver,
        to: Out<Handle>,
        graph: Handle,
        _error_node: *mut Handle,
        _log: *mut c_char,
        _log_bytes: usize,
    ) needs Health {
        driver.instantiate(to, graph)
    }

    fn cuGraphInstantiateWithFlags(driver, to: Out<Handle>, graph: Handle, _flags: u64) needs Health {
        driver.instantiate(to, graph)
    }

    fn cuGraphLaunch(driver, executable: Handle, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        driver.launch_graph(executable, stream)
    }

    fn cuGraphExecDestroy(driver, executable: Handle) needs Health {
        driver.executables.remove(&executable).map(|_| ()).ok_or(Code::INVALID_HANDLE)
    }

    fn cuGraphDestroy(driver, graph: Handle) needs Health {
        driver.graphs.remove(&graph).map(|_| ()).ok_or(Code::INVALID_HANDLE)
    }
}
