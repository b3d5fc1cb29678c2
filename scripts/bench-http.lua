-- One load of scripts/bench-http for wrk: the request from the environment, one line of figures at the end.

local depth = tonumber(os.getenv("BENCH_DEPTH") or "1")
local body = os.getenv("BENCH_BODY") or ""
local kind = os.getenv("BENCH_TYPE") or ""

wrk.path = os.getenv("BENCH_PATH")
wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")
if body ~= "" then
    local file = assert(io.open(body, "rb"))
    wrk.method = "POST"
    wrk.body = file:read("*a")
    wrk.headers["Content-Type"] = kind
    file:close()
end

local requests

function init()
    requests = string.rep(wrk.format(), depth)
end

function request()
    return requests
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("BENCH %d %d %d\n", summary.requests, failed, latency:percentile(50)))
end
