# Completion of the commands of smx for bash: words of the command line from the programs' own -h.

_smx_words() { # the commands or options that "$@" -h names
    "$@" -h 2>/dev/null | grep -oE '^    [a-z][a-z-]+|(^|[ ,[])--?[A-Za-z][a-z-]*' | tr -d ' ,['
}

_smx_qmgrctl() {
    local word=${COMP_WORDS[COMP_CWORD]} command="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -f | -s) i=$((i + 1)) ;;
        -*) ;;
        *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    case ${COMP_WORDS[COMP_CWORD - 1]} in
    -f | -s) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --state) COMPREPLY=($(compgen -W "incoming active deferred held" -- "$word")); return ;;
    esac
    if [ -z "$command" ]; then
        COMPREPLY=($(compgen -W "$(_smx_words qmgrctl)" -- "$word"))
    else
        COMPREPLY=($(compgen -W "$(_smx_words qmgrctl "$command")" -- "$word"))
    fi
}

_smx_smxconf() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "check show diff man sample" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(_smx_words smxconf "${COMP_WORDS[1]}")" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}

_smx_mcp_sh() {
    COMPREPLY=($(compgen -W "start stop restart reload status" -- "${COMP_WORDS[COMP_CWORD]}"))
}

complete -F _smx_qmgrctl qmgrctl
complete -F _smx_smxconf smxconf
complete -F _smx_mcp_sh mcp.sh
