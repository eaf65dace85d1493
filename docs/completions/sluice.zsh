#compdef sluice
_sluice() {
    if (( CURRENT == 2 )); then compadd demo init certificate serve check reload upgrade status rollout endpoints flag replay diff load version completion man help; return; fi
    if (( CURRENT == 3 )) && [[ $words[2] == rollout ]]; then compadd start watch pause resume promote abort undo approve explain history; return; fi
    if (( CURRENT == 3 )) && [[ $words[2] == endpoints ]]; then compadd list add remove drain reset; return; fi
    if (( CURRENT == 3 )) && [[ $words[2] == flag ]]; then compadd list show off on set unset eval history import export lint token; return; fi
    case "$words[2] $words[3]" in
    "demo "*) compadd -- --plain --rate --help  ;;
    "init "*) compadd -- --listen --stable --next --force --help ; _files ;;
    "certificate "*) compadd -- --days --out --help  ;;
    "serve "*) compadd -- --log --workers --io --supervise --hang-after --help ; _files ;;
    "check "*) compadd -- --rate --error-rate --admin --no-ask --route --header --json --help ; _files ;;
    "reload "*) compadd -- --admin --json --who --help  ;;
    "upgrade "*) compadd -- --admin --who --help  ;;
    "status "*) compadd -- --watch --json --admin --help  ;;
    "rollout start"*) compadd -- --admin --json --who --help  ;;
    "rollout watch"*) compadd -- --admin --once --plain --help  ;;
    "rollout pause"*) compadd -- --admin --json --who --journal --help  ;;
    "rollout resume"*) compadd -- --admin --json --who --help  ;;
    "rollout promote"*) compadd -- --admin --json --who --help  ;;
    "rollout abort"*) compadd -- --admin --json --who --journal --help  ;;
    "rollout undo"*) compadd -- --admin --json --who --journal --yes --help  ;;
    "rollout approve"*) compadd -- --admin --json --who --help  ;;
    "rollout explain"*) compadd -- --admin --json --help  ;;
    "rollout history"*) compadd -- --admin --json --help  ;;
    "endpoints list"*) compadd -- --admin --json --help  ;;
    "endpoints add"*) compadd -- --weight --version --admin --json --who --help  ;;
    "endpoints remove"*) compadd -- --version --admin --json --who --help  ;;
    "endpoints drain"*) compadd -- --version --admin --json --who --help  ;;
    "endpoints reset"*) compadd -- --version --admin --json --who --help  ;;
    "flag list"*) compadd -- --stale --changed --admin --json --help  ;;
    "flag show"*) compadd -- --admin --json --help  ;;
    "flag off"*) compadd -- --variant --journal --who --admin --json --help  ;;
    "flag on"*) compadd -- --who --admin --json --help  ;;
    "flag set"*) compadd -- --default --who --admin --json --help ; _files ;;
    "flag unset"*) compadd -- --yes --who --admin --json --help  ;;
    "flag eval"*) compadd -- --context --key --type --file --segments --admin --json --help ; _files ;;
    "flag history"*) compadd -- --admin --json --help  ;;
    "flag import"*) compadd -- --from --environment --output --strict --apply --yes --who --admin --json --help ; _files ;;
    "flag export"*) compadd -- --output --admin --help ; _files ;;
    "flag lint"*) compadd -- --segments --stale --admin --json --help ; _files ;;
    "flag token"*) compadd -- --name --kind --environment --json --help  ;;
    "replay "*) compadd -- --json --help ; _files ;;
    "diff "*) compadd -- --type --ignore --spelling --path --examples --json --admin --help ; _files ;;
    "load "*) compadd -- --rate --rate-end --duration --connections --timeout --poisson --host --header --replay --json --help ; _files ;;
    "version "*) compadd -- --help  ;;
    "completion "*) compadd -- --help bash zsh fish ;;
    "man "*) compadd -- --help  ;;
    "help "*) compadd -- --help demo init certificate serve check reload upgrade status rollout endpoints flag replay diff load version completion man help ;;
    esac
}
if [[ $funcstack[1] == _sluice ]]; then _sluice "$@"; else compdef _sluice sluice; fi
