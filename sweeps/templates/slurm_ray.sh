
own_address() { # of this node, as others reach it: IPv4, not loopback
  { getent ahostsv4 "$(hostname)"; hostname -I | tr ' ' '\n'; } | awk '$1 ~ /^[0-9.]+$/ && $1 !~ /^127\./ { print $1; exit }'
}

listening() { # whether the head takes connections
  (: >"/dev/tcp/$head/$port") 2>/dev/null
}

# shellcheck disable=SC2317,SC2329 # called by srun
node() { # what each node runs: Ray's head on the first, which is this one, and a worker on the others
  local scratch=/tmp/loopsweep-$SLURM_JOB_ID role
  if [[ $SLURM_NODEID == 0 ]]; then
    role=(--head --port "$port" --temp-dir "$scratch" --include-dashboard=false)
  else
    for ((tries = 0; tries < 300; tries++)); do listening && break; sleep 1; done
    role=(--address "$head:$port")
  fi
  trap : TERM # Ray ends by it, and the scratch folder goes then
  "$ray" start "${role[@]}" --node-ip-address "$(own_address)" --num-cpus "$cpus" --num-gpus "$gpus" \
    --min-worker-port 0 --max-worker-port 0 --object-store-memory 100000000 --disable-usage-stats --block
  local code=$?
  rm -rf -- "$scratch"
  return "$code"
}

# The token lets in whom it lets in: it lies in a folder that nobody else may enter, on the file system that the nodes
# share, and on no command line.
private=$directory/.loopsweep-$SLURM_JOB_ID
rm -rf -- "$private"
mkdir -m 700 -- "$private" || exit 3
trap 'rm -rf -- "$private"' EXIT
(umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$private/token") || exit 3
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$private/token RAY_USAGE_STATS_ENABLED=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # nodes are told to end when nothing runs on them any more

head=$(own_address)
port=$("$python" -c 'import socket; print(socket.create_server(("", 0)).getsockname()[1])') # a free one, chosen by the kernel
export head port ray cpus gpus
export -f own_address listening node

srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus" --kill-on-bad-exit=0 --no-kill \
  bash -c node &
cluster=$!

# TERM is Slurm's warning before the time limit, or before it preempts the job: the driver drains, Ray's actors commit,
# and it exits with 143. Nodes are told only when it has ended.
driver=
# shellcheck disable=SC2317,SC2329 # called by the trap
warned() {
  again=yes
  if [[ $driver ]]; then kill -TERM "$driver"; else code=143 && finish; fi
}
trap warned TERM

# All nodes are waited for, five minutes at most.
until listening; do
  kill -0 "$cluster" 2>/dev/null || { echo "Ray did not start" >&2; exit 3; }
  sleep 1
done
"$python" - "$head:$port" "$nodes" <<'END'
import sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
deadline = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]) and time.monotonic() < deadline:
    time.sleep(1)
END

"${loopsweep[@]}" run --on ray --address "$head:$port" "${options[@]}" -- "$study" &
driver=$!
await "$driver"

scancel --signal=TERM "$SLURM_JOB_ID" # Ray's nodes end, and remove their scratch folders
for ((tries = 0; tries < 60; tries++)); do kill -0 "$cluster" 2>/dev/null || break; sleep 1; done
finish
