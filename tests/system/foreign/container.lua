-- SPDX-License-Identifier: Apache-2.0
-- A container's life from neovim, which is a msgpack-RPC client by birth and knows nothing of davit.
-- Wants arg[1], the socket, and arg[2], a root file system with /bin/sh; prints topics and the exit status.

local socket, rootfs = arg[1], arg[2]
local channel = vim.fn.sockconnect("pipe", socket, { rpc = true })

seen = {}
function davit_event(event)
	table.insert(seen, event)
end

local function call(method, params)
	return vim.rpcrequest(channel, method, params or {})
end

local function wait_for(topic)
	local function there()
		for _, event in ipairs(seen) do
			if event.topic == topic then
				return true
			end
		end
		return false
	end
	assert(vim.wait(60000, there, 5), topic .. " did not come")
end

-- errors come as text that nvim can show
call("rpc.options", { errors = "string" })
-- the method that davit calls is one that nvim has; its argument is Lua to run with the event
call("events.subscribe", {
	filters = { "topic~=/tasks/" },
	method = "nvim_exec_lua",
	args = { "davit_event(...)" },
})
local namespaces = {}
for _, kind in ipairs({ "pid", "mount", "ipc", "uts", "network" }) do
	table.insert(namespaces, { type = kind })
end
call("containers.create", {
	id = "nvim",
	spec = {
		ociVersion = "1.2.0",
		process = { args = { "/bin/sh", "-c", "exit 42" }, cwd = "/", env = { "PATH=/bin" }, user = { uid = 0, gid = 0 } },
		root = { path = rootfs },
		mounts = { { destination = "/proc", type = "proc", source = "proc" } },
		linux = { namespaces = namespaces },
	},
})
call("tasks.create", { container_id = "nvim" })
call("tasks.start", { container_id = "nvim" })
wait_for("/tasks/exit")
call("tasks.delete", { container_id = "nvim" })
call("containers.delete", { id = "nvim" })
wait_for("/tasks/delete")
local ok, message = pcall(call, "tasks.get", { container_id = "nvim" })
assert(not ok and tostring(message):find("not_found"), "an error is not text: " .. tostring(message))
local topics, status = {}, nil
for _, event in ipairs(seen) do
	table.insert(topics, event.topic)
	if event.topic == "/tasks/exit" then
		status = event.event.exit_status
	end
end
io.stdout:write(table.concat(topics, " ") .. "\n" .. tostring(status) .. "\n")
io.stdout:flush()
