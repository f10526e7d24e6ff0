//! A hundred headlines and sentences in the ten tracked languages, and what is not among them.

use super::*;

const NEWS: [(&str, &str); 100] = [
    ("en", "Rising power bills squeeze households"),
    ("en", "Minister resigns after report on rail safety"),
    ("en", "Fishing fleet returns to port"),
    ("en", "Parliament backs new rules on wind farms"),
    (
        "en",
        "The central bank held rates steady on Thursday, saying inflation had eased more than expected since the autumn.",
    ),
    ("en", "Thousands of commuters were stranded when storms brought down overhead lines across the north."),
    ("en", "Opinion: why the city should stop building car parks and plant trees instead"),
    ("en", "Berlin and Paris agree on gas storage"),
    ("en", "Ursula von der Leyen in Brussels"),
    ("en", "Live: Eurovision semi-final"),
    ("de", "Strompreise belasten Haushalte"),
    ("de", "Ministerin tritt nach Bericht zurück"),
    ("de", "Fischereiflotte kehrt in den Hafen zurück"),
    ("de", "Bundestag stimmt für neue Regeln bei Windparks"),
    (
        "de",
        "Die Zentralbank ließ die Zinsen am Donnerstag unverändert, weil die Inflation stärker als erwartet nachgelassen hat.",
    ),
    ("de", "Tausende Pendler saßen fest, als Stürme im Norden Oberleitungen herunterrissen."),
    ("de", "Kommentar: Warum die Stadt keine Parkhäuser mehr bauen sollte"),
    ("de", "Berlin und Paris einigen sich auf Gasspeicher"),
    ("de", "Die alte Brücke in der Innenstadt wird saniert"),
    ("de", "Warnung vor Glatteis"),
    ("fr", "Les factures d'électricité pèsent sur les ménages"),
    ("fr", "La ministre démissionne après le rapport"),
    ("fr", "La flotte de pêche rentre au port"),
    ("fr", "Le Parlement soutient de nouvelles règles sur les éoliennes"),
    (
        "fr",
        "La banque centrale a maintenu ses taux jeudi, estimant que l'inflation avait reculé plus que prévu depuis l'automne.",
    ),
    (
        "fr",
        "Des milliers d'usagers sont restés bloqués lorsque des tempêtes ont arraché les caténaires dans le nord.",
    ),
    ("fr", "Tribune : pourquoi la ville devrait planter des arbres"),
    ("fr", "Berlin et Paris s'accordent sur le stockage du gaz"),
    ("fr", "Grève dans les transports"),
    ("fr", "Énergie : le gouvernement recule"),
    ("es", "Las facturas de la luz ahogan a los hogares"),
    ("es", "La ministra dimite tras el informe"),
    ("es", "La flota pesquera regresa a puerto"),
    ("es", "El Parlamento respalda nuevas normas sobre parques eólicos"),
    (
        "es",
        "El banco central mantuvo los tipos el jueves al considerar que la inflación había cedido más de lo previsto desde el otoño.",
    ),
    ("es", "Miles de viajeros quedaron atrapados cuando los temporales derribaron la catenaria en el norte."),
    ("es", "Opinión: por qué la ciudad debería plantar árboles"),
    ("es", "Berlín y París pactan el almacenamiento de gas"),
    ("es", "Huelga en el transporte público"),
    ("es", "El gobierno aprueba el presupuesto"),
    ("it", "Le bollette della luce pesano sulle famiglie"),
    ("it", "La ministra si dimette dopo il rapporto"),
    ("it", "La flotta da pesca rientra in porto"),
    ("it", "Il Parlamento approva nuove regole sui parchi eolici"),
    (
        "it",
        "La banca centrale ha lasciato i tassi invariati giovedì, ritenendo che l'inflazione sia scesa più del previsto dall'autunno.",
    ),
    (
        "it",
        "Migliaia di pendolari sono rimasti bloccati quando le tempeste hanno abbattuto le linee aeree nel nord.",
    ),
    ("it", "Opinione: perché la città dovrebbe piantare alberi"),
    ("it", "Berlino e Parigi d'accordo sullo stoccaggio del gas"),
    ("it", "Sciopero dei trasporti a Milano"),
    ("it", "Il governo approva la manovra"),
    ("pl", "Rachunki za prąd obciążają gospodarstwa domowe"),
    ("pl", "Minister podała się do dymisji po raporcie"),
    ("pl", "Flota rybacka wraca do portu"),
    ("pl", "Parlament popiera nowe przepisy o farmach wiatrowych"),
    (
        "pl",
        "Bank centralny pozostawił w czwartek stopy bez zmian, uznając, że inflacja spadła bardziej niż oczekiwano.",
    ),
    ("pl", "Tysiące pasażerów utknęło, gdy wichury zerwały sieć trakcyjną na północy."),
    ("pl", "Opinia: dlaczego miasto powinno sadzić drzewa"),
    ("pl", "Berlin i Paryż uzgodniły magazyny gazu"),
    ("pl", "Strajk w komunikacji miejskiej"),
    ("pl", "Sejm uchwalił budżet"),
    ("nl", "Stroomrekening drukt op huishoudens"),
    ("nl", "Minister treedt af na rapport over spoorveiligheid"),
    ("nl", "Vissersvloot keert terug naar de haven"),
    ("nl", "Parlement steunt nieuwe regels voor windparken"),
    (
        "nl",
        "De centrale bank hield de rente donderdag ongewijzigd omdat de inflatie sterker is gedaald dan verwacht.",
    ),
    ("nl", "Duizenden forenzen strandden toen stormen de bovenleidingen in het noorden omver bliezen."),
    ("nl", "Opinie: waarom de stad bomen moet planten"),
    ("nl", "Berlijn en Parijs eens over gasopslag"),
    ("nl", "Staking bij het openbaar vervoer"),
    ("nl", "Kabinet schrapt plannen voor kernenergie"),
    ("sv", "Elräkningarna pressar hushållen"),
    ("sv", "Ministern avgår efter rapport om tågsäkerhet"),
    ("sv", "Fiskeflottan återvänder till hamnen"),
    ("sv", "Riksdagen stöder nya regler för vindkraft"),
    (
        "sv",
        "Centralbanken lät räntan vara oförändrad på torsdagen eftersom inflationen sjunkit mer än väntat sedan i höstas.",
    ),
    ("sv", "Tusentals pendlare blev strandsatta när stormar rev ner kontaktledningar i norr."),
    ("sv", "Debatt: därför bör staden plantera träd"),
    ("sv", "Berlin och Paris överens om gaslager"),
    ("sv", "Strejk i kollektivtrafiken"),
    ("sv", "Regeringen lägger fram budgeten"),
    ("da", "Elregninger presser husholdningerne"),
    ("da", "Ministeren går af efter rapport om togsikkerhed"),
    ("da", "Fiskerflåden vender tilbage til havnen"),
    ("da", "Folketinget støtter nye regler for vindmølleparker"),
    (
        "da",
        "Centralbanken holdt renten uændret torsdag, fordi inflationen er faldet mere end ventet siden efteråret.",
    ),
    ("da", "Tusindvis af pendlere strandede, da storme rev køreledninger ned i den nordlige del af landet."),
    ("da", "Debat: derfor bør byen plante træer"),
    ("da", "Berlin og Paris enige om gaslagre"),
    ("da", "Strejke i den offentlige trafik"),
    ("da", "Regeringen fremlægger finansloven"),
    ("pt", "As contas da luz pesam nas famílias"),
    ("pt", "A ministra demite-se após o relatório"),
    ("pt", "A frota pesqueira regressa ao porto"),
    ("pt", "O Parlamento apoia novas regras para parques eólicos"),
    (
        "pt",
        "O banco central manteve as taxas na quinta-feira, por considerar que a inflação desceu mais do que o previsto desde o outono.",
    ),
    ("pt", "Milhares de passageiros ficaram retidos quando as tempestades derrubaram a catenária no norte."),
    ("pt", "Opinião: porque deve a cidade plantar árvores"),
    ("pt", "Berlim e Paris chegam a acordo sobre o armazenamento de gás"),
    ("pt", "Greve nos transportes públicos"),
    ("pt", "O governo aprova o orçamento"),
];

const OTHER: [&str; 8] = [
    "Guvernul a aprobat bugetul pentru anul viitor după o dezbatere lungă în parlament.",
    "Vláda schválila rozpočet na příští rok po dlouhé debatě.",
    "A kormány elfogadta a jövő évi költségvetést.",
    "Hallitus hyväksyi ensi vuoden talousarvion pitkän keskustelun jälkeen.",
    "Regjeringen la fram statsbudsjettet for neste år.",
    "El govern aprova el pressupost de l'any vinent.",
    "Hükümet gelecek yılın bütçesini onayladı.",
    "Η κυβέρνηση ενέκρινε τον προϋπολογισμό.",
];

fn right(declare: bool) -> usize {
    NEWS.iter()
        .filter(|(language, text)| detect(text, declare.then_some(*language)).language == *language)
        .count()
}

#[test]
fn news_is_recognised_without_a_declaration() {
    let wrong: Vec<_> =
        NEWS.iter().map(|(l, t)| (l, detect(t, None), t)).filter(|(l, d, _)| d.language != **l).collect();
    assert!(right(false) >= 85, "{wrong:#?}");
}

#[test]
fn a_right_declaration_makes_every_headline_right() {
    let wrong: Vec<_> =
        NEWS.iter().map(|(l, t)| (l, detect(t, Some(l)), t)).filter(|(l, d, _)| d.language != **l).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_else_passes_for_english() {
    let others = NEWS.iter().filter(|(language, _)| *language != "en").map(|(_, text)| *text).chain(OTHER);
    for text in others {
        for declared in [None, Some("en")] {
            let detected = detect(text, declared);
            assert!(
                detected.language != "en" || detected.confidence < 0.5,
                "{declared:?} {detected:?} {text}"
            );
        }
    }
}

#[test]
fn english_sentences_count_as_english() {
    for (_, text) in NEWS.iter().filter(|(language, text)| *language == "en" && text.len() > 60) {
        for declared in [None, Some("en-GB"), Some("de")] {
            let detected = detect(text, declared);
            assert!(
                detected.language == "en" && detected.confidence >= 0.5,
                "{declared:?} {detected:?} {text}"
            );
        }
    }
}

#[test]
fn a_wrong_declaration_loses_against_a_full_sentence() {
    for (language, text) in NEWS.iter().filter(|(_, text)| text.chars().count() > 85) {
        let wrong = if *language == "fr" { "de" } else { "fr" };
        assert_eq!(detect(text, Some(wrong)).language, *language, "{text}");
    }
}

#[test]
fn a_foreign_title_does_not_turn_a_sentence() {
    let detected = detect("„The Lord of the Rings“ läuft wieder im Kino", Some("de"));
    assert_eq!(detected.language, "de");
}

#[test]
fn text_without_letters_has_the_declared_language_or_none() {
    assert_eq!(detect("", None), Detected { language: "und".into(), confidence: 0.0 });
    assert_eq!(detect("2026: 3,5 %", None).language, "und");
    assert_eq!(detect("2026: 3,5 %", Some("pl-PL")), Detected { language: "pl".into(), confidence: 0.4 });
    assert_eq!(detect("...", Some("nb")).language, "no");
    assert_eq!(detect("...", Some("english")).language, "und");
}
