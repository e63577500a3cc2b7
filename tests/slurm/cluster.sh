#!/usr/bin/env bash
# A real Slurm cluster of nine nodes on this one machine (Debian 12 or the like, root), for tests: `cluster.sh up`, `cluster.sh down`.
# A second `up` only checks what is there. `cluster.sh accounting off` (or `on`) starts the controller again without (or with) accounting. Everything binds to loopback. No systemd, no cgroups; CPUs, memory and GPUs of the nodes are fake.
set -euo pipefail

STATE=${MICROTOME_SLURM_STATE:-/var/tmp/microtome-slurm}
NODES=9 CPUS=8 MEM_MB=16000 GPUS=2 FIRST_PORT=17000
HOST=$(hostname -s)

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

wait_for() { # what, command...: at most 30 s
  local what=$1; shift
  for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  echo "cluster.sh: waited 30 s for $what in vain; logs are in $STATE/log" >&2
  return 1
}

install_packages() {
  local missing=""
  for package in slurmctld slurmd slurm-client slurmdbd mariadb-server munge; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
  done
  [ -z "$missing" ] && return 0
  local policy=/usr/sbin/policy-rc.d # keeps the packages from starting their daemons with their own configuration
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

name_hosts() { # node names must resolve, and the host's own name must resolve to loopback, where the daemons bind
  grep -q '# microtome-slurm begin' /etc/hosts && return 0
  local own="" hosts
  case "$(getent ahostsv4 "$HOST" | awk 'NR==1{print $1}')" in 127.*) ;; *) own="127.0.0.1 $HOST" ;; esac
  hosts=$(cat /etc/hosts)
  { echo '# microtome-slurm begin'; [ -n "$own" ] && echo "$own"
    for i in $(seq $NODES); do echo "127.0.10.$i node$i"; done
    echo '# microtome-slurm end'; printf '%s\n' "$hosts"; } >/etc/hosts # in place: it may be a bind mount
}

start_munge() {
  mkdir -p /etc/munge /run/munge /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=128 count=1 status=none
  chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
  chmod 700 /etc/munge /var/log/munge; chmod 400 /etc/munge/munge.key; chmod 711 /var/lib/munge; chmod 755 /run/munge
  if ! munge -n </dev/null 2>/dev/null | unmunge >/dev/null 2>&1; then
    rm -f /run/munge/munged.pid
    setpriv --reuid=munge --regid=munge --init-groups /usr/sbin/munged
  fi
  wait_for munge sh -c 'munge -n </dev/null | unmunge'
}

configure() { # accounting_storage/slurmdbd or accounting_storage/none, a line that only the first allows
  local address; address=$(getent ahostsv4 "$HOST" | awk 'NR==1{print $1}')
  mkdir -p /etc/slurm "$STATE/dev"
  for gpu in $(seq 0 $((GPUS - 1))); do [ -c "$STATE/dev/gpu$gpu" ] || mknod -m 666 "$STATE/dev/gpu$gpu" c 1 3; done
  echo "NodeName=node[1-$NODES] Name=gpu File=$STATE/dev/gpu[0-$((GPUS - 1))]" >/etc/slurm/gres.conf
  cat >/etc/slurm/slurm.conf <<CONF
ClusterName=test
SlurmctldHost=$HOST($address)
SlurmctldPort=6817
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job starts again after this many seconds, not 120
AuthInfo=cred_expire=5
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/spool.%n
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmdPidFile=$STATE/run/slurmd.%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0,sched_interval=2
MinJobAge=600
KillWait=5
MessageTimeout=30
SlurmdTimeout=60
ReturnToService=2
AccountingStorageType=$1
${2:-}
AccountingStorageHost=$address
AccountingStoragePort=6819
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
# there are no cgroups here: a job is killed when a poll finds it over its memory
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
NodeName=node[1-$NODES] NodeHostname=$HOST NodeAddr=$address Port=[$((FIRST_PORT + 1))-$((FIRST_PORT + NODES))] CPUs=$CPUS RealMemory=$MEM_MB Gres=gpu:$GPUS State=UNKNOWN
PartitionName=cpu Nodes=node[1-4] Default=YES DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=10 OverSubscribe=NO
PartitionName=gpu Nodes=node[1-4] Default=NO DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=10 OverSubscribe=NO
# partitions of their own for what disturbs nodes: GraceTime is how long a preempted job has to save; batch jobs save slide by slide
PartitionName=yielding Nodes=node[5-6] DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=10 OverSubscribe=NO
PartitionName=preempted Nodes=node[7-9] DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=10 OverSubscribe=NO GraceTime=90
PartitionName=urgent Nodes=ALL Default=NO DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=100 OverSubscribe=NO PreemptMode=OFF
CONF
  cat >/etc/slurm/slurmdbd.conf <<CONF
DbdHost=$HOST
DbdAddr=$address
DbdPort=6819
CommunicationParameters=NoInAddrAny
AuthType=auth/munge
SlurmUser=slurm
PidFile=$STATE/run/slurmdbd.pid
LogFile=$STATE/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
CONF
  chown slurm:slurm /etc/slurm/slurmdbd.conf; chmod 600 /etc/slurm/slurmdbd.conf
}

start_accounting() {
  mkdir -p /run/mysqld; chown mysql:root /run/mysqld
  if ! alive "$STATE/run/mariadbd.pid"; then
    if [ ! -d "$STATE/db/mysql" ]; then
      mkdir -p "$STATE/db"; chown mysql:mysql "$STATE/db"
      mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/db" --skip-test-db --auth-root-authentication-method=socket >"$STATE/log/mariadb.log" 2>&1
    fi
    setpriv --reuid=mysql --regid=mysql --init-groups mariadbd --no-defaults --user=mysql --datadir="$STATE/db" --skip-networking \
      --socket=/run/mysqld/mysqld.sock --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
      >>"$STATE/log/mariadb.log" 2>&1 </dev/null &
    echo $! >"$STATE/run/mariadbd.pid"; disown
  fi
  wait_for mariadb mariadb -uroot -S /run/mysqld/mysqld.sock -e 'select 1'
  mariadb -uroot -S /run/mysqld/mysqld.sock -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
  alive "$STATE/run/slurmdbd.pid" || setpriv --reuid=slurm --regid=slurm --init-groups slurmdbd
  wait_for slurmdbd sacctmgr -n -i list cluster
  sacctmgr -n list cluster test format=cluster | grep -qw test || sacctmgr -i -Q add cluster test >/dev/null || true
  sacctmgr -n list account pathology format=account%20 | grep -qw pathology || sacctmgr -i -Q add account pathology Cluster=test Description=test Organization=test >/dev/null
  sacctmgr -n list assoc account=pathology user=root format=user | grep -qw root || sacctmgr -i -Q add user root Account=pathology >/dev/null
}

start_slurm() {
  alive "$STATE/run/slurmctld.pid" || setpriv --reuid=slurm --regid=slurm --init-groups slurmctld
  for i in $(seq $NODES); do
    alive "$STATE/run/slurmd.node$i.pid" || { mkdir -p "$STATE/spool.node$i"; slurmd -N "node$i"; }
  done
  wait_for slurmctld scontrol ping
  wait_for "all nodes" sh -c "[ \$(sinfo -h -N -p urgent -t idle,alloc,mix -o %N | wc -l) -ge $NODES ]"
}

up() {
  install_packages
  mkdir -p "$STATE"/{log,run,ctld}; chmod 755 "$STATE"; chown slurm:slurm "$STATE"/{log,run,ctld}
  name_hosts; start_munge; configure accounting_storage/slurmdbd AccountingStorageTRES=gres/gpu; start_accounting; start_slurm
  srun --partition urgent --nodes $NODES --ntasks-per-node 1 --time 1 hostname >/dev/null
}

stop() { # pid file: SIGTERM, at most 15 s, SIGKILL
  [ -s "$1" ] || return 0
  local pid; pid=$(cat "$1"); kill "$pid" 2>/dev/null || true
  for _ in $(seq 75); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$1"
}

accounting() { # on, off
  case $1 in on) configure accounting_storage/slurmdbd AccountingStorageTRES=gres/gpu ;; off) configure accounting_storage/none ;; esac
  stop "$STATE/run/slurmctld.pid"
  start_slurm
}

end_leftovers() { # without cgroups Slurm does not find a cancelled job's process whose parent ended before it
  [ -d "$STATE" ] || return 0
  for environment in /proc/[0-9]*/environ; do
    if tr '\0' '\n' 2>/dev/null <"$environment" | grep -qx SLURM_CLUSTER_NAME=test; then kill -9 "$(basename "$(dirname "$environment")")" 2>/dev/null || true; fi
  done
}

down() {
  scancel --user root 2>/dev/null || true
  local pids=("$STATE"/run/slurmd.*.pid "$STATE/run/slurmctld.pid" "$STATE/run/slurmdbd.pid" "$STATE/run/mariadbd.pid" /run/munge/munged.pid)
  for pid in "${pids[@]}"; do [ -s "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true; done # each takes its seconds, all the same ones
  for pid in "${pids[@]}"; do stop "$pid"; done
  end_leftovers
  rm -rf "$STATE" /etc/slurm/slurm.conf /etc/slurm/slurmdbd.conf /etc/slurm/gres.conf
  local hosts; hosts=$(sed '/# microtome-slurm begin/,/# microtome-slurm end/d' /etc/hosts); printf '%s\n' "$hosts" >/etc/hosts
}

"$@"
