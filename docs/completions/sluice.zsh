#compdef sluice
_sluice() {
    if (( CURRENT == 2 )); then compadd demo serve check status rollout replay load version completion man help; return; fi
    if (( CURRENT == 3 )) && [[ $words[2] == rollout ]]; then compadd start watch pause resume promote abort undo approve explain history; return; fi
    case "$words[2] $words[3]" in
    "demo "*) compadd -- --plain --rate --write-example --help ;;
    "serve "*) compadd -- --log --workers --io --help ;;
    "check "*) compadd -- --rate --error-rate --admin --no-ask --help ;;
    "status "*) compadd -- --watch --json --admin --help ;;
    "rollout start"*) compadd -- --admin --json --who --help ;;
    "rollout watch"*) compadd -- --admin --once --plain --help ;;
    "rollout pause"*) compadd -- --admin --json --who --help ;;
    "rollout resume"*) compadd -- --admin --json --who --help ;;
    "rollout promote"*) compadd -- --admin --json --who --help ;;
    "rollout abort"*) compadd -- --admin --json --who --help ;;
    "rollout undo"*) compadd -- --admin --json --who --yes --help ;;
    "rollout approve"*) compadd -- --admin --json --who --help ;;
    "rollout explain"*) compadd -- --admin --json --help ;;
    "rollout history"*) compadd -- --admin --json --help ;;
    "replay "*) compadd -- --json --help ;;
    "load "*) compadd -- --rate --rate-end --duration --connections --timeout --poisson --host --header --replay --json --help ;;
    "version "*) compadd -- --help ;;
    "completion "*) compadd -- --help ;;
    "man "*) compadd -- --help ;;
    "help "*) compadd -- --help ;;
    esac
    _files
}
compdef _sluice sluice
