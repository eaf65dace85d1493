_sluice() {
    local cur=${COMP_WORDS[COMP_CWORD]} words= files=
    case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
    "demo "*) words="--plain --rate --help " ;;
    "init "*) files=1 words="--listen --stable --next --force --help " ;;
    "certificate "*) words="--days --out --help " ;;
    "serve "*) files=1 words="--log --workers --io --supervise --hang-after --help " ;;
    "check "*) files=1 words="--rate --error-rate --admin --no-ask --route --header --json --help " ;;
    "reload "*) words="--admin --json --who --help " ;;
    "upgrade "*) words="--admin --who --help " ;;
    "status "*) words="--watch --json --admin --help " ;;
    "rollout start"*) words="--admin --json --who --help " ;;
    "rollout watch"*) words="--admin --once --plain --help " ;;
    "rollout pause"*) words="--admin --json --who --journal --help " ;;
    "rollout resume"*) words="--admin --json --who --help " ;;
    "rollout promote"*) words="--admin --json --who --help " ;;
    "rollout abort"*) words="--admin --json --who --journal --help " ;;
    "rollout undo"*) words="--admin --json --who --journal --yes --help " ;;
    "rollout approve"*) words="--admin --json --who --help " ;;
    "rollout explain"*) words="--admin --json --help " ;;
    "rollout history"*) words="--admin --json --help " ;;
    "endpoints list"*) words="--admin --json --help " ;;
    "endpoints add"*) words="--weight --version --admin --json --who --help " ;;
    "endpoints remove"*) words="--version --admin --json --who --help " ;;
    "endpoints drain"*) words="--version --admin --json --who --help " ;;
    "endpoints reset"*) words="--version --admin --json --who --help " ;;
    "flag list"*) words="--stale --changed --admin --json --help " ;;
    "flag show"*) words="--admin --json --help " ;;
    "flag off"*) words="--variant --journal --who --admin --json --help " ;;
    "flag on"*) words="--who --admin --json --help " ;;
    "flag set"*) files=1 words="--default --who --admin --json --help " ;;
    "flag unset"*) words="--yes --who --admin --json --help " ;;
    "flag eval"*) files=1 words="--context --key --type --file --segments --admin --json --help " ;;
    "flag history"*) words="--admin --json --help " ;;
    "flag import"*) files=1 words="--from --environment --output --strict --apply --yes --who --admin --json --help " ;;
    "flag export"*) files=1 words="--output --admin --help " ;;
    "flag lint"*) files=1 words="--segments --stale --admin --json --help " ;;
    "flag token"*) words="--name --kind --environment --json --help " ;;
    "replay "*) files=1 words="--json --help " ;;
    "diff "*) files=1 words="--type --ignore --spelling --path --examples --json --admin --help " ;;
    "load "*) files=1 words="--rate --rate-end --duration --connections --timeout --poisson --host --header --replay --json --help " ;;
    "version "*) words="--help " ;;
    "completion "*) words="--help bash zsh fish" ;;
    "man "*) words="--help " ;;
    "help "*) words="--help demo init certificate serve check reload upgrade status rollout endpoints flag replay diff load version completion man help" ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then words="demo init certificate serve check reload upgrade status rollout endpoints flag replay diff load version completion man help"; fi
    if [ "$COMP_CWORD" -eq 2 ] && [ "${COMP_WORDS[1]}" = rollout ]; then words="start watch pause resume promote abort undo approve explain history"; fi
    if [ "$COMP_CWORD" -eq 2 ] && [ "${COMP_WORDS[1]}" = endpoints ]; then words="list add remove drain reset"; fi
    if [ "$COMP_CWORD" -eq 2 ] && [ "${COMP_WORDS[1]}" = flag ]; then words="list show off on set unset eval history import export lint token"; fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [ -n "$files" ]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}
complete -F _sluice sluice
