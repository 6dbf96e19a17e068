#!/bin/bash
# slurm.sh: a real Slurm (Debian 12 packages, 22.05) with three nodes on this machine, for tests/clusters. As root.
#
#   slurm.sh up | down | reset | status    reset: no job is known any more, and up again
#   slurm.sh ctld-down | ctld-up           Slurm's central daemon
#   slurm.sh kill-node NODE | start-node NODE
#   slurm.sh kill-slurmd NODE              its daemon only: the jobs on it run on, unseen
#   slurm.sh requeue-wait SECONDS          least time between a requeue and the next start (Slurm: 121; here 60; least 6)
#   slurm.sh drain NODE on|off             no new jobs on it
#   slurm.sh idle [SECONDS]                end all jobs; all is up, and nothing drained
#
# Each node has its own mount, UTS, IPC and PID namespaces: host name, process ids, /tmp, /var/tmp, /dev/shm are its own;
# home directories are shared, as on a cluster. No accounting, no systemd.
#
# What is set so that tests are quick: KillWait, SlurmdTimeout, MinJobAge, MessageTimeout, cred_expire and the intervals
# of the scheduler. The 30 s between two looks at the time limits are fixed in slurmctld.
set -u -o pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
NODES=(node1 node2 node3) CPUS=${CKPT_SLURM_CPUS:-24}
ETC=/etc/slurm RUN=/run/ckpt-slurm STATE=/var/lib/ckpt-slurm LOG=/var/log/ckpt-slurm
MARK='# written by slurm.sh of snakemake-executor-plugin-ckpt'

say() { printf '[slurm] %s\n' "$*"; }
die() { printf '[slurm] %s\n' "$*" >&2; exit 1; }
alive() { local s; [ -s "$1" ] && s=$(sed 's/.*) //' "/proc/$(cat "$1")/stat" 2>/dev/null) && [ "${s%% *}" != Z ]; }
waitfor() { # SECONDS COMMAND...
    local i end=$(($1 * 10)); shift
    for ((i = 0; i < end; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
    return 1
}
ended() { ! alive "$1"; }
finish() { # PIDFILE [SECONDS]: TERM, wait, KILL
    alive "$1" && kill -TERM "$(cat "$1")" && { waitfor "${2:-15}" ended "$1" || kill -KILL "$(cat "$1")"; }
    rm -f "$1"
}
known() { local node; for node in "${NODES[@]}"; do [ "$node" != "$1" ] || return 0; done; die "no node $1"; }

# --- configuration ---------------------------------------------------------------------------------------------------
tracking() { # what ends a job's processes: cgroups where they can be had (v1), else the tree of processes
    local controller
    for controller in freezer memory; do
        [ -w /sys/fs/cgroup/$controller/cgroup.procs ] || { echo linuxproc; return; }
    done
    echo cgroup
}

configure() { # [SECONDS of cred_expire]
    local host track i
    host=$(hostname -s)
    track=$(tracking)
    ! [ -e $ETC/slurm.conf ] || grep -qxF "$MARK" $ETC/slurm.conf || die "this machine has a Slurm of its own ($ETC/slurm.conf)"
    getent hosts "$host" >/dev/null || printf '127.0.0.1\t%s\n' "$host" >>/etc/hosts # slurmctld looks its own name up
    install -d -m 755 $ETC $RUN $LOG $STATE
    install -d -o slurm -g slurm -m 755 $STATE/ctld $LOG/ctld $RUN/ctld
    printf '%s\n' CgroupPlugin=cgroup/v1 CgroupAutomount=no CgroupMountpoint=/sys/fs/cgroup ConstrainCores=no >$ETC/cgroup.conf
    {
        cat <<CONF
$MARK
ClusterName=ckpt
SlurmctldHost=$host(127.0.0.1)
SlurmUser=slurm
SlurmctldPort=6817
SlurmctldPidFile=$RUN/ctld/pid
SlurmctldLogFile=$LOG/ctld/log
StateSaveLocation=$STATE/ctld
SlurmdPidFile=$RUN/%n.slurmd
SlurmdLogFile=$LOG/%n.log
SlurmdSpoolDir=$STATE/%n
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=cred_expire=${1:-59}
ProctrackType=proctrack/$track
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=2,requeue_setup_env_fail
SlurmctldParameters=preempt_send_user_signal
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=${CKPT_SLURM_MIN_JOB_AGE:-20}
JobRequeue=1
SlurmctldTimeout=30
SlurmdTimeout=6
MessageTimeout=5
UnkillableStepTimeout=60
PropagateResourceLimits=NONE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MailProg=/bin/true
NodeName=DEFAULT CPUs=$CPUS CoresPerSocket=$CPUS RealMemory=4000 State=UNKNOWN
CONF
        for i in "${!NODES[@]}"; do
            echo "NodeName=${NODES[i]} NodeAddr=127.0.0.1 Port=$((17001 + i)) Feature=all,cpu_$((i % 2 + 1))"
        done
        cat <<'CONF'
PartitionName=DEFAULT Nodes=ALL State=UP MaxTime=UNLIMITED
PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=short PriorityTier=10 PreemptMode=OFF MaxTime=1
PartitionName=high PriorityTier=100 PreemptMode=OFF
PartitionName=hidden Hidden=YES PriorityTier=10 PreemptMode=OFF
CONF
    } >$ETC/slurm.conf
}

# --- daemons ---------------------------------------------------------------------------------------------------------
start_munge() {
    munge -n </dev/null >/dev/null 2>&1 && return
    install -d -o munge -g munge -m 755 /run/munge # systemd-tmpfiles would have made it
    install -d -o munge -g munge -m 700 /etc/munge /var/log/munge
    [ -s /etc/munge/munge.key ] || runuser -u munge -- mungekey -c -k /etc/munge/munge.key || die "no munge key"
    runuser -u munge -- /usr/sbin/munged || die "munged: see /var/log/munge/munged.log"
    waitfor 10 munge -n </dev/null || die "munge does not answer"
    cp /run/munge/munged.pid $RUN/munged # the one that `down` ends
}

start_ctld() {
    alive $RUN/ctld/pid || { rm -f $RUN/ctld/pid; slurmctld || die "slurmctld does not start"; }
    waitfor 30 sh -c 'scontrol ping | grep -q "is UP"' || { tail $LOG/ctld/log; die "slurmctld does not answer"; }
}

# The first process of a node: it buries what its node's processes leave, and the node dies with it.
# shellcheck disable=SC2016 # it is that shell that expands it
INIT='read -r pid _ </proc/self/stat && echo "$pid" >"$2" && hostname "$1" && mount -t proc proc /proc &&
    for folder in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $folder || exit 1; done
    while :; do sleep 1000 & wait "$!"; done'

start_node() {
    if ! alive "$RUN/$1.init"; then
        rm -f "$RUN/$1.init" "$RUN/$1.slurmd"
        setsid unshare --fork --kill-child --pid --mount --uts --ipc bash -c "$INIT" init "$1" "$RUN/$1.init" \
            </dev/null >>"$LOG/$1.log" 2>&1 &
        waitfor 10 test -s "$RUN/$1.init" || die "$1 has no first process"
        waitfor 10 sh -c "[ \"\$(nsenter -t $(cat "$RUN/$1.init") -u hostname)\" = $1 ]"
        waitfor 10 nsenter -t "$(cat "$RUN/$1.init")" -p -m mountpoint -q /dev/shm
    fi
    mkdir -p "$STATE/$1"
    # Its own pid file says the number inside of the node.
    nsenter -t "$(cat "$RUN/$1.init")" -p -m -u -i sh -c \
        "[ -s $RUN/$1.slurmd ] && kill -0 \$(cat $RUN/$1.slurmd) 2>/dev/null || exec slurmd -N $1" || die "slurmd of $1"
}

all_up() { [ "$(sinfo -hN -p main -o %t | grep -cxE 'idle|mix|alloc')" -eq ${#NODES[@]} ]; }
start_nodes() {
    local node
    for node in "${NODES[@]}"; do start_node "$node"; done
    waitfor 20 all_up && return
    for node in "${NODES[@]}"; do scontrol update nodename="$node" state=resume; done 2>/dev/null
    waitfor 20 all_up || { sinfo -N -l; sinfo -R; die "not all nodes are up"; }
}

kill_node() { alive "$RUN/$1.init" && kill -KILL "$(cat "$RUN/$1.init")"; waitfor 10 ended "$RUN/$1.init"; rm -f "$RUN/$1."*; }
kill_slurmd() { nsenter -t "$(cat "$RUN/$1.init")" -p -m sh -c "kill -KILL \$(cat $RUN/$1.slurmd)"; rm -f "$RUN/$1.slurmd"; }

# No answer is neither yes nor no.
resumed() {
    scontrol update nodename="$1" state=resume 2>/dev/null
    case $(scontrol show node "$1") in *State=*+DRAIN*) return 1 ;; *State=*) return 0 ;; *) return 1 ;; esac
}
drain() { # NODE on|off
    if [ "$2" = on ]; then scontrol update nodename="$1" state=drain reason=test
    else waitfor 30 resumed "$1" || die "$1 is not resumed"; fi # refused until slurmctld knows of the node again
}

idle() {
    local node
    start_ctld
    for node in "${NODES[@]}"; do start_node "$node"; drain "$node" off; done
    squeue -aho %A | sort -u | xargs -r scancel
    waitfor "$1" no_jobs || { squeue -a; sinfo -N -l; die "jobs are left, or nodes are down"; }
}

# --- verbs -----------------------------------------------------------------------------------------------------------
up() { configure && start_munge && start_ctld && start_nodes && say "up: ${NODES[*]}"; }

down() {
    local node
    for node in "${NODES[@]}"; do kill_node "$node"; done
    finish $RUN/ctld/pid 20
    [ ! -s $RUN/munged ] || finish $RUN/munged
    # without it no client takes this machine for a cluster
    if [ -e $ETC/slurm.conf ] && grep -qxF "$MARK" $ETC/slurm.conf; then rm -f $ETC/slurm.conf $ETC/cgroup.conf; fi
    rm -rf $RUN $STATE
    say down
}

no_jobs() { [ -z "$(squeue -ah)" ] && all_up; }

[ "$(id -u)" = 0 ] || die "must be root"
case ${1:-} in
up) up ;;
down) down ;;
reset) down && up ;;
ctld-down) finish $RUN/ctld/pid 20 ;;
ctld-up) start_ctld ;;
kill-node) known "${2:-}" && kill_node "$2" ;;
start-node) known "${2:-}" && start_node "$2" && { waitfor 30 all_up || say "$2 is not up yet"; } ;;
kill-slurmd) known "${2:-}" && kill_slurmd "$2" ;;
requeue-wait) configure $((${2:?seconds} - 1)) && finish $RUN/ctld/pid 20 && start_ctld ;;
drain) known "${2:-}" && drain "$2" "${3:?on or off}" ;;
idle) idle "${2:-60}" ;;
status) sinfo -N -l && squeue -a ;;
*) die "usage: $0 up|down|reset|status|ctld-down|ctld-up|kill-node|start-node|kill-slurmd|requeue-wait|drain|idle" ;;
esac
