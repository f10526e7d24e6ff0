//! gRPC server reflection, as grpcurl uses it: what is served, and how its messages look. Both versions of the protocol.

use prost::Message;
use prost_types::FileDescriptorProto;
use tokio_stream::once;

use crate::hub::Hub;

/// Full name of every service that a client may find.
const SERVICES: [&str; 11] = [
    "euhub.v1.AdminService",
    "euhub.v1.ArticleService",
    "euhub.v1.BackupService",
    "euhub.v1.DocumentService",
    "euhub.v1.KeywordService",
    "euhub.v1.OperationsService",
    "euhub.v1.SearchService",
    "euhub.v1.SentimentService",
    "euhub.v1.SourceService",
    "euhub.v1.SuggestionService",
    "grpc.health.v1.Health",
];

macro_rules! reflection {
    ($version:ident) => {
        mod $version {
            use pb::server_reflection_client::ServerReflectionClient;
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version as pb;

            use super::*;

            async fn ask(hub: &Hub, question: MessageRequest) -> MessageResponse {
                let request =
                    pb::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let mut client = ServerReflectionClient::new(hub.channel().await);
                let mut answers = client.server_reflection_info(once(request)).await.unwrap().into_inner();
                answers.message().await.unwrap().unwrap().message_response.unwrap()
            }

            async fn files(hub: &Hub, question: MessageRequest) -> Vec<FileDescriptorProto> {
                match ask(hub, question).await {
                    MessageResponse::FileDescriptorResponse(response) => response
                        .file_descriptor_proto
                        .iter()
                        .map(|bytes| FileDescriptorProto::decode(bytes.as_slice()).unwrap())
                        .collect(),
                    other => panic!("{other:?}"),
                }
            }

            #[tokio::test]
            async fn lists_every_service() {
                let hub = Hub::empty().await;
                let MessageResponse::ListServicesResponse(list) =
                    ask(&hub, MessageRequest::ListServices(String::new())).await
                else {
                    panic!("no list");
                };
                let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
                for service in SERVICES {
                    assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
                }
            }

            #[tokio::test]
            async fn describes_a_service_a_method_and_a_message() {
                let hub = Hub::empty().await;
                for symbol in [
                    "euhub.v1.KeywordService",
                    "euhub.v1.KeywordService.GetKeyword",
                    "euhub.v1.Keyword",
                    "euhub.v1.Keyword.display_name",
                ] {
                    let files = files(&hub, MessageRequest::FileContainingSymbol(symbol.into())).await;
                    let file = files.iter().find(|file| file.package() == "euhub.v1").expect(symbol);
                    let service = file.service.iter().find(|service| service.name() == "KeywordService");
                    let methods: Vec<&str> =
                        service.expect("the service").method.iter().map(|method| method.name()).collect();
                    assert!(
                        methods.contains(&"GetKeyword") && methods.contains(&"PreviewKeyword"),
                        "{methods:?}"
                    );
                    let method =
                        service.unwrap().method.iter().find(|method| method.name() == "GetKeyword").unwrap();
                    assert_eq!(method.input_type(), ".euhub.v1.GetKeywordRequest");
                    assert_eq!(method.output_type(), ".euhub.v1.Keyword");
                }
            }

            #[tokio::test]
            async fn every_import_can_be_had() {
                let hub = Hub::empty().await;
                let mut wanted = vec!["euhub/v1/keyword.proto".to_owned()];
                let mut seen = Vec::new();
                while let Some(name) = wanted.pop() {
                    if seen.contains(&name) {
                        continue;
                    }
                    let files = files(&hub, MessageRequest::FileByFilename(name.clone())).await;
                    let file = files.into_iter().find(|file| file.name() == name).expect(&name);
                    seen.push(name);
                    wanted.extend(file.dependency);
                }
                for name in ["google/api/annotations.proto", "buf/validate/validate.proto"] {
                    assert!(seen.iter().any(|seen| seen == name), "{seen:?}");
                }
            }

            #[tokio::test]
            async fn an_unknown_symbol_is_not_found() {
                let hub = Hub::empty().await;
                let mut client = ServerReflectionClient::new(hub.channel().await);
                let question = MessageRequest::FileContainingSymbol("euhub.v1.NoSuchService".into());
                let request =
                    pb::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let status = match client.server_reflection_info(once(request)).await {
                    Err(status) => status,
                    Ok(answers) => answers.into_inner().message().await.unwrap_err(),
                };
                assert_eq!(status.code(), tonic::Code::NotFound);
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);
